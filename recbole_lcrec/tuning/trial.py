"""One trial of a search: what runs in a process of Ray.

It takes the path of every run (``experiment.build``, ``Experiment.fit``) on a data set that was loaded once for all
trials, without the loader of the test phase, and reports the validation metrics after every evaluation.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.tuning.data import SharedData
from recbole_lcrec.tuning.storage import Storage, TrialFolder
from recbole_lcrec.utils.allocator import keep_freed_memory
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import StorageError, storing, write_json
from recbole_lcrec.utils.run_files import RANKS

logger = logging.getLogger(__name__)

PROGRESS, POINT, STATE = "progress.json", "point.json", "state"
"""The best validation of a trial of pbt; in a checkpoint: where the training stands, and its state."""
KEEP = 3
"""Checkpoints of a trial that pbt can still ask for: copies are made of the latest, and may start a little later."""
_PATIENCE = 600
"""Seconds that a process is given to leave a trial that was stopped: on a busy machine, or with a model to store."""


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a search share.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        given: Options of the files and of the command line, with absolute paths.
        storage: Where trials leave what they write.
        data: The data set with its split, and what was made for it.
        metric: The key of ``valid_metric`` among the metrics.
        bigger: Whether a greater score is better.
        threads: Threads of torch.
        gpus: GPUs of a trial, or the fraction of one.
        population_every: Epochs between the checkpoints that pbt copies; 0 for other schedulers.
    """

    model: str
    dataset: str
    given: Mapping[str, Any]
    storage: Storage
    data: SharedData
    metric: str
    bigger: bool
    threads: int
    gpus: float
    population_every: int

    def options_of(self, folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a trial.

        Args:
            folder: Where it works.
            values: Its configuration.
        """
        options = {**self.given, **self.data.options, **values, "output_dir": str(folder), "show_progress": False}
        if not self.gpus:
            options["use_gpu"] = False
        elif "gpu_id" in options:
            options["gpu_id"] = "0"  # the first of those that Ray lets this process see
        if self.population_every:
            options["stopping_step"] = 1_000_000  # pbt replaces poor trials; one that stopped by itself could not be
        return options


def train_trial(config: dict[str, Any], inputs: TrialInputs) -> None:
    """Run a trial to its end, or until the scheduler stops it. A failure is reported, not raised: it is the trial's.

    Args:
        config: Under ``trial``: ``values`` and, for a trial of pbt that continues after an interruption, ``resume``,
            the path of a checkpoint. The name is taken from Ray, as pbt gives a trial another one's configuration.
        inputs: What all trials share.
    """
    from ray import tune

    start = time.perf_counter()
    _settle(inputs.threads)
    try:
        _train(tune.get_context().get_trial_name(), config["trial"], inputs, start)
        end: dict[str, Any] = {"finished": True}
    except StorageError as error:  # not the trial's fault: it runs again when there is room
        end = {"no_room": str(error)}
    except Exception as error:  # noqa: BLE001 (every failure is a result of the search)
        logger.exception("trial failed")
        end = {"failed": explain(error)}
    finally:
        _free()
    tune.report({**end, "seconds": time.perf_counter() - start})


def _settle(threads: int) -> None:
    """Give the process the threads of its trial; Ray reuses the process for the next one.

    Ray then waits for this trial to end, by default for two seconds only, after which it would lose the next trial
    silently, and pbt would wait for that one forever.
    """
    import torch

    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(_PATIENCE)
    torch.set_num_threads(threads)
    keep_freed_memory()


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explain(error: BaseException) -> str:
    """Return an error in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, (UserError, FloatingPointError)) else f"{type(error).__name__}: {text}"


def _train(name: str, trial: Mapping[str, Any], inputs: TrialInputs, start: float) -> None:
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None and trial.get("resume"):
        checkpoint = tune.Checkpoint(trial["resume"])
    with inputs.storage.working_folder(name, anew=checkpoint is None) as folder:
        _train_at(folder, trial["values"], checkpoint, inputs, start)


def _train_at(
    folder: TrialFolder, values: Mapping[str, Any], checkpoint: Any, inputs: TrialInputs, start: float
) -> None:
    from recbole_lcrec.experiment import build
    from recbole_lcrec.experiment.checks import checked_config
    from recbole_lcrec.experiment.outputs import output_folder

    split = inputs.data.unpickled()
    options = inputs.options_of(folder.path, values)
    config = checked_config(inputs.model, inputs.dataset, cli=options, has_data=split is not None)
    with output_folder(folder.path, "trial.log", RunOptions(config).state) as keep:
        experiment = build(config=config, split=split, with_test=False)
        keep()
        experiment.describe()
        trainer = experiment.trainer
        trainer.chronicle.loggers.tensorboard_dir = folder.tensorboard
        reporter = Reporter(folder, values, inputs, trainer, start)
        if checkpoint is not None:
            reporter.take_over(checkpoint)
            if trainer.start_epoch >= trainer.epochs:
                return  # RecBole would save this state over the best one
        with trainer.chronicle.loggers:  # a trial that is stopped leaves the loop at a report
            report = (lambda epoch, _, found: reporter.validated(epoch + 1, found)) if trainer.has_epochs else None
            best = experiment.fit(report)
            if not reporter.best and best is not None:  # RecBole's models without epochs
                reporter.validated(1, best)


def go_on_from(folder: Path, trainer: Any) -> None:
    """Load a checkpoint (weights, optimizer, epoch) and keep the options of this trial's own configuration.

    The optimizer's saved state carries the learning rate and weight decay of the trial that was copied.
    """
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in trainer.optimizer.param_groups
    ]
    trainer.resume_checkpoint(folder)
    for group, options in zip(trainer.optimizer.param_groups, groups, strict=True):
        group.update(options, initial_lr=options["lr"])


class Reporter:
    """Sends what a validation found to the search, and keeps what pbt may copy.

    Args:
        folder: Where the trial works.
        values: Its configuration.
        inputs: What all trials share.
        trainer: The trial's trainer.
        start: ``time.perf_counter()`` when the trial started.
    """

    def __init__(
        self, folder: TrialFolder, values: Mapping[str, Any], inputs: TrialInputs, trainer: Any, start: float
    ) -> None:
        self._folder, self._values, self._inputs = folder, dict(values), inputs
        self._trainer, self._start = trainer, start
        self._before = 0.0
        self._copied: str | None = None
        self.best: dict[str, Any] = {}

    def take_over(self, checkpoint: Any) -> None:
        """Continue from a checkpoint, of this trial or of another one; this trial's best state stays its own."""
        with checkpoint.as_directory() as directory:
            point = json.loads((Path(directory) / POINT).read_text(encoding="utf-8"))
            go_on_from(Path(directory) / STATE, self._trainer)
        self._before = point["seconds"]
        self._copied = point["trial"] if point["trial"] != self._folder.trial else None
        path = self._folder.path / PROGRESS
        if path.exists():
            self.best = json.loads(path.read_text(encoding="utf-8"))
        worst = -float("inf") if self._inputs.bigger else float("inf")
        self._trainer.best_valid_score = self.best.get("score", worst)
        self._trainer.cur_step = 0

    def validated(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report a validation.

        Args:
            epoch: Epochs done.
            metrics: All validation metrics.

        Raises:
            FloatingPointError: If the metric that counts is not a finite number.
        """
        import ray

        score = float(metrics[self._inputs.metric])
        if score != score or score in (float("inf"), -float("inf")):
            raise FloatingPointError(f"{self._inputs.metric} is {score} after epoch {epoch}")
        better = not self.best or (score > self.best["score"] if self._inputs.bigger else score < self.best["score"])
        if better:
            self.best = {"score": score, "epoch": epoch}
        seconds = self._before + time.perf_counter() - self._start
        result = {
            "epoch": epoch,
            "score": score,
            "best_score": self.best["score"],
            "metrics": {name: float(value) for name, value in metrics.items()},
            "seconds": seconds,
            "values": self._values,
            "copied": self._copied,
            "node": f"{socket.gethostname()} {ray.get_runtime_context().get_node_id()[:6]}",
            "pid": os.getpid(),
            "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        every = self._inputs.population_every
        if every:
            write_json(self._folder.path / PROGRESS, self.best)
        if better:
            self._folder.keep()
        if every and epoch % every == 0:
            self._report_with_state(result, {"trial": self._folder.trial, "epoch": epoch, "seconds": seconds})
        else:
            self._report(result)

    def _report_with_state(self, result: dict[str, Any], point: dict[str, Any]) -> None:
        """Report, and give Ray the training's state, from which this trial or a copy of it can continue."""
        from ray import tune

        with self._folder.state_folder() as state:
            self._trainer.save_state(state / STATE)
            write_json(state / POINT, point)
            with storing(self._inputs.storage.where):
                self._report(result, checkpoint=tune.Checkpoint.from_directory(str(state)))

    @staticmethod
    def _report(result: dict[str, Any], **more: Any) -> None:
        from ray import tune

        tune.report(result, **more)


def test_trial(name: str, values: Mapping[str, Any], inputs: TrialInputs) -> tuple[dict[str, Any], bytes | None]:
    """Return what result.json holds of a trial's checkpoint: the only time that the test users are evaluated.

    Args:
        name: The trial.
        values: Its configuration.
        inputs: What all trials share.

    Returns:
        The result, and the file of ranks that it names.
    """
    from recbole_lcrec.evaluation.ranks import write_ranks
    from recbole_lcrec.experiment import load_experiment
    from recbole_lcrec.experiment.outputs import result_of

    _settle(inputs.threads)
    with inputs.storage.working_folder(name, anew=False, keep=False) as folder:
        experiment = load_experiment(folder.path, {"show_progress": False}, split=inputs.data.unpickled())
        result = result_of(experiment, None, experiment.evaluate("test"))
        ranks = None
        if experiment.ranks is not None:
            with folder.state_folder() as temporary:
                write_ranks(temporary / RANKS, experiment.ranks, experiment)
                ranks = (temporary / RANKS).read_bytes()
    return {key: value for key, value in result.items() if key not in ("epochs", "seconds")}, ranks
