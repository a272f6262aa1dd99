"""One trial of a search: what runs in a process of Ray.

It goes the way of every run (``experiment.build``, ``Experiment.fit``) on a data set that was loaded once for all
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_lcrec.allocator import keep_freed_memory
from recbole_lcrec.config.configuration import with_files_at
from recbole_lcrec.io import StorageError, write_json
from recbole_lcrec.saved_run import RANKS
from recbole_lcrec.tuning.place import POPULATION, TENSORBOARD, TRIALS, SharedPlace, place_of
from recbole_lcrec.tuning.shipping import Shipment

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
_PATIENCE = 600
"""Seconds that a process is given to leave a trial that was stopped: on a busy machine, or with a model to send."""
_KEEP = 3
"""Checkpoints of a trial that pbt can still ask for: copies are made of the latest, and may start a little later."""


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a search share.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        given: Options of the files and of the command line, with absolute paths.
        folder: The search's output folder.
        split: The data set and its split, pickled by the search itself; None if trials load their own.
        metric: The key of ``valid_metric`` among the metrics.
        bigger: Whether a greater score is better.
        threads: Of torch.
        gpus: GPUs of a trial, or the part of one.
        population_every: Epochs between the checkpoints that pbt copies; 0 for other schedulers.
        shipment: What is sent to machines that do not see the search's folders; None if all do.
        places: Paths of the search -> where that lies on this machine, if it is elsewhere.
    """

    model: str
    dataset: str
    given: Mapping[str, Any]
    folder: Path
    split: bytes | None
    metric: str
    bigger: bool
    threads: int
    gpus: float
    population_every: int
    shipment: Shipment | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def folder_of(self, name: str) -> Path:
        """Return the folder of a trial, which is that of a run."""
        return self.folder / TRIALS / name

    def options_of(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a trial."""
        options = {**self.given, **values, "output_dir": str(self.folder_of(name)), "show_progress": False}
        if not self.gpus:
            options["use_gpu"] = False
        elif "gpu_id" in options:
            options["gpu_id"] = "0"  # the first of those that Ray lets this process see
        if self.population_every:
            options["stopping_step"] = 1_000_000  # pbt replaces poor trials; one that stopped by itself could not be
        return self.here(options)

    def here(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with the paths of this machine."""
        moved = with_files_at(options, self.places)
        folders = {name: moved[name] for name in ("data_path", "cache_dir") if name in moved}
        return {**moved, **{name: self.places.get(path, path) for name, path in folders.items()}}


def train_trial(config: dict[str, Any], inputs: TrialInputs) -> None:
    """Run a trial to its end, or until the scheduler stops it. A failure is reported, not raised: it is the trial's.

    Args:
        config: Under ``trial``: ``values`` and, for a trial of pbt that goes on, ``resume`` (see ``_point``). The name
            is taken from Ray, as pbt gives a trial the configuration of another one.
        inputs: What all trials share.
    """
    from types import SimpleNamespace

    from ray import tune

    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    session = SimpleNamespace(report=tune.report, get_checkpoint=tune.get_checkpoint, get_trial_name=lambda: tune.get_context().get_trial_name())
    start = time.perf_counter()
    _settle(inputs.threads)
    try:
        _train(session.get_trial_name(), config["trial"], place_of(inputs), session, start)
        session.report({"finished": True, "seconds": time.perf_counter() - start})
    except StorageError as error:  # no fault of the trial: it runs again when there is room
        session.report({"no_room": str(error), "seconds": time.perf_counter() - start})
    except Exception as error:  # noqa: BLE001 (whatever went wrong is a result of the search)
        logger.exception("trial failed")
        session.report({"failed": explain(error), "seconds": time.perf_counter() - start})
    finally:
        _free()


def _settle(threads: int) -> None:
    """Give the process the threads of its trial; Ray uses a process again for the next one.

    Then it waits for the end of this trial, by itself for two seconds only, after which it would lose the next trial
    without a word, and pbt would wait for that one for ever.
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
    name = type(error).__name__
    return text if name in ("UserError", "FloatingPointError") else f"{name}: {text}"


def _train(name: str, config: dict[str, Any], place: SharedPlace, session: Any, start: float) -> None:
    point = _point(config, session)
    if point is None:
        place.clear(name)
    try:
        _train_at(place, name, config["values"], point, session, start)
    finally:
        place.leave(name)


def _train_at(
    place: SharedPlace, name: str, values: Mapping[str, Any], point: dict[str, Any] | None, session: Any, start: float
) -> None:
    from recbole_lcrec.config import LCRecConfig
    from recbole_lcrec.experiment import build
    from recbole_lcrec.outputs import output_folder
    from recbole_lcrec.tuning.data import unpickled

    inputs = place.inputs
    options = LCRecConfig(inputs.model, inputs.dataset, cli=inputs.options_of(name, values))
    with output_folder(inputs.folder_of(name), "trial.log", options["state"]) as keep:
        split = None if inputs.split is None else unpickled(inputs.split)
        experiment = build(config=options, split=split, with_test=False)
        keep()
        experiment.describe()
        trainer = experiment.trainer
        if hasattr(trainer, "tensorboard_dir"):
            trainer.tensorboard_dir = inputs.folder / TENSORBOARD / name
        reporter = Reporter(name, values, place, session, trainer, start)
        if point is not None:
            go_on_from(place.fetch(point["folder"]), trainer)
            reporter.take_over(point)
            if trainer.start_epoch >= trainer.epochs:
                return  # RecBole would save this state over the best one
        try:
            epochs = hasattr(trainer, "last_valid_result")  # RecBole's tree models have none
            best = experiment.fit((lambda epoch, _, found: reporter.validated(epoch + 1, found)) if epochs else None)
            if not reporter.best and best is not None:  # RecBole's models without epochs
                reporter.validated(1, best)
        finally:
            if hasattr(trainer, "tensorboard_dir"):
                trainer.tensorboard.close()  # a trial that is stopped leaves the loop at a report


def _point(config: dict[str, Any], session: Any) -> dict[str, Any] | None:
    """Return where a trial of pbt goes on: {folder (in the output folder), trial, epoch, seconds}; None to start."""
    checkpoint = session.get_checkpoint()
    return json.loads((Path(checkpoint.to_directory()) / 'point.json').read_text()) if checkpoint is not None else config.get("resume")


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
        name: The trial.
        values: Its configuration.
        place: Where it runs.
        session: Ray's.
        trainer: The trial's trainer.
        start: ``time.perf_counter()`` when the trial started.
    """

    def __init__(
        self, name: str, values: Mapping[str, Any], place: SharedPlace, session: Any, trainer: Any, start: float
    ) -> None:
        self._name, self._values, self._place, self._inputs = name, dict(values), place, place.inputs
        self._session, self._trainer, self._start = session, trainer, start
        self._before = 0.0
        self._copied: str | None = None
        self.best: dict[str, Any] = {}

    def take_over(self, point: Mapping[str, Any]) -> None:
        """Go on after a checkpoint, of this trial or of another one; this trial's best state stays its own."""
        self._before = point["seconds"]
        self._copied = point["trial"] if point["trial"] != self._name else None
        path = self._place.fetch(f"{TRIALS}/{self._name}/{PROGRESS}")
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
            FloatingPointError: If the metric that counts is no finite number.
        """
        import ray

        score = float(metrics[self._inputs.metric])
        if score != score or score in (float("inf"), -float("inf")):
            raise FloatingPointError(f"{self._inputs.metric} is {score} after epoch {epoch}")
        if not self.best or (score > self.best["score"]) == self._inputs.bigger and score != self.best["score"]:
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
        point = self._population(epoch, seconds)
        self._place.send(self._name)
        self._session.report(result, checkpoint=point)

    def _population(self, epoch: int, seconds: float) -> Any:
        """Save the state for pbt and return Ray's note of where it lies; None when it is not asked for."""
        every = self._inputs.population_every
        if not every or epoch % every:
            return None
        import tempfile

        from ray.tune import Checkpoint

        folder, name = self._inputs.folder, _state_of(self._name, epoch)
        self._trainer.save_state(folder / name)
        point = {"folder": name, "trial": self._name, "epoch": epoch, "seconds": seconds}
        write_json(self._inputs.folder_of(self._name) / PROGRESS, self.best)
        write_json(folder / f"{name}.json", point)
        if epoch > _KEEP * every:
            old = _state_of(self._name, epoch - _KEEP * every)
            self._place.forget(f"{old}.json")
            self._place.forget(old)
        here = Path(tempfile.mkdtemp())
        write_json(here / 'point.json', point)
        return Checkpoint.from_directory(here)


def _state_of(trial: str, epoch: int) -> str:
    """Return where in the output folder the state of a trial of pbt lies."""
    return f"{TRIALS}/{trial}/{POPULATION}/epoch-{epoch:06d}"


def latest_point(folder: Path) -> dict[str, Any] | None:
    """Return the latest checkpoint of a trial of pbt, given the trial's folder; None before the first."""
    found = sorted((folder / POPULATION).glob("epoch-*.json"))
    return json.loads(found[-1].read_text(encoding="utf-8")) if found else None


def test_trial(name: str, values: Mapping[str, Any], inputs: TrialInputs) -> dict[str, Any]:
    """Return what result.json holds of a trial's checkpoint: the one time that the test users are looked at.

    The ranks that it names are in the output folder then.

    Args:
        name: The trial.
        values: Its configuration.
        inputs: What all trials share.
    """
    from recbole_lcrec.experiment import load_experiment
    from recbole_lcrec.outputs import result_of
    from recbole_lcrec.training.ranks import write_ranks

    _settle(inputs.threads)
    place = place_of(inputs)
    folder, options = place.fetch(f"{TRIALS}/{name}"), {**inputs.given, **values}
    moved = {key: value for key, value in place.inputs.here(options).items() if value != options[key]}
    try:
        experiment = load_experiment(folder, {**moved, "show_progress": False})
        result = result_of(experiment, None, experiment.evaluate("test"))
        if experiment.ranks is not None:
            write_ranks(place.inputs.folder / RANKS, experiment.ranks, experiment)
            place.hand_over(RANKS)
    finally:
        place.leave(name)
    return {key: value for key, value in result.items() if key not in ("epochs", "seconds")}
