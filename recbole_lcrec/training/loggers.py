"""What gets the metrics of a run in addition to its log: tensorboard, Weights & Biases, MLflow (option ``logger``).

All get the same values under the same names (``train/loss``, ``train/learning_rate``, ``valid/ndcg@10``,
``best_valid/ndcg@10``, ``test/ndcg@10``), each at the number of epochs done. Of several processes only the main one
has loggers. The run's ids in wandb and MLflow are kept in loggers.json, so that a resumed run continues theirs.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed import group
from recbole_lcrec.utils.errors import UserError, clipped, reason_of
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.run_files import LOGGERS, MLFLOW, TENSORBOARD, WANDB

logger = logging.getLogger(__name__)

_LONGEST_PARAMETER = 500
"""Characters of an option's value that every version of MLflow takes."""


class MetricLogger(Protocol):
    """A program that records the run.

    Attributes:
        name: As in option ``logger``.
        run_id: Its id of the run; "" if it has no ids for runs.
    """

    name: str
    run_id: str

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Take values by name, at a number of epochs done."""

    def describe(self, options: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Take the options that RecBole passes to tensorboard, with the names of the metrics that they are compared
        by; programs that have all options ignore them."""

    def close(self, status: str) -> None:
        """Write what is left; ``status`` is MLflow's word: FINISHED, FAILED or KILLED."""


class TensorboardLogger:
    """Event files for ``tensorboard --logdir``.

    Args:
        folder: Where to write.
        first_epoch: The first epoch to come: curves of an interrupted run are cut off there.
    """

    name, run_id = "tensorboard", ""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_epoch if first_epoch > 1 else None)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`MetricLogger`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def describe(self, options: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """See :class:`MetricLogger`; they appear under HPARAMS."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(options), dict.fromkeys(metrics, 0.0)):
            self._writer._get_file_writer().add_summary(summary)  # add_hparams would open a run of its own

    def close(self, status: str) -> None:
        """See :class:`MetricLogger`."""
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases, offline unless there is a key (or WANDB_MODE says otherwise).

    Args:
        folder: The run's folder; files go to ``wandb`` in it.
        project: Name of the project.
        known: Id of the run if it is continued.
        options: All options of the run.
    """

    name = "wandb"

    def __init__(self, folder: Path, project: str, known: str | None, options: Mapping[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off")  # the terminal is in the run's own log
        wandb.setup(settings=wandb.Settings(silent=True))
        mode = None
        if not os.environ.get("WANDB_MODE"):
            mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        self.run_id = known or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=project, name=folder.name, dir=str(folder), id=self.run_id, resume="allow", mode=mode,
            config=dict(options), reinit="create_new", settings=settings,
        )  # fmt: skip
        if mode == "offline":
            logger.info("wandb: no key, so offline; to send the run: wandb sync %s/offline-run-*", folder / WANDB)
        elif self._run.url:
            logger.info("wandb: %s", self._run.url)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`MetricLogger`."""
        self._run.log(dict(values), step=epoch)

    def describe(self, options: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """See :class:`MetricLogger`."""

    def close(self, status: str) -> None:
        """See :class:`MetricLogger`."""
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


class MlflowLogger:
    """A run of MLflow, in a file store in the run's folder (or where MLFLOW_TRACKING_URI says).

    Args:
        folder: The run's folder; files go to ``mlruns`` in it.
        project: Name of the experiment.
        known: Id of the run if it is continued.
        options: All options of the run, its parameters.
    """

    name = "mlflow"

    def __init__(self, folder: Path, project: str, known: str | None, options: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        with _file_store_allowed():
            self._client = MlflowClient(
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or (folder / MLFLOW).as_uri()
            )
            experiment = self._client.get_experiment_by_name(project)
            number = self._client.create_experiment(project) if experiment is None else experiment.experiment_id
        if known is not None:
            self.run_id = known
            self._client.update_run(known, status="RUNNING")
            return
        self.run_id = str(self._client.create_run(number, run_name=folder.name).info.run_id)
        parameters = [Param(name, clipped(str(value), _LONGEST_PARAMETER)) for name, value in options.items()]
        for start in range(0, len(parameters), 100):  # the most that a server takes at once
            self._client.log_batch(self.run_id, params=parameters[start : start + 100])

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`MetricLogger`; MLflow's names have no @, and its own metrics write ndcg_at_10."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = [Metric(name.replace("@", "_at_"), value, now, epoch) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=found)

    def describe(self, options: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """See :class:`MetricLogger`."""

    def close(self, status: str) -> None:
        """See :class:`MetricLogger`."""
        self._client.set_terminated(self.run_id, status=status)


@contextmanager
def _file_store_allowed() -> Iterator[None]:
    """Let MLflow open a file store: newer versions refuse to unless they are asked."""
    name = "MLFLOW_ALLOW_FILE_STORE"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Loggers:
    """All loggers of a run. They are opened when the first file of a training is about to be written.

    A context manager: on exit it closes them, and tells them whether the run failed.

    Args:
        config: The experiment's configuration.
        folder: The run's folder.
    """

    def __init__(self, config: Any, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._opened: list[MetricLogger] | None = None
        self.tensorboard_dir = folder / TENSORBOARD
        """Where tensorboard's files go; to be changed before the loggers are opened."""

    def open(self, epochs_done: int = 0) -> None:
        """Open what ``logger`` names, unless it is open.

        Args:
            epochs_done: Epochs that an interrupted run had completed.

        Raises:
            UserError: If one of them cannot be started.
        """
        if self._opened is not None:
            return
        self._opened = []
        if not group.is_main():
            return
        run, known = RunOptions(self._config), self._known()
        makers: dict[str, Callable[..., MetricLogger]] = {"wandb": WandbLogger, "mlflow": MlflowLogger}
        for name in run.logger:
            if name == TensorboardLogger.name:
                self._opened.append(TensorboardLogger(self.tensorboard_dir, epochs_done + 1))
                continue
            options = self._config.resolved()
            try:
                self._opened.append(makers[name](self._folder, run.wandb_project, known.get(name), options))
            except Exception as error:  # noqa: BLE001 (a client may raise anything)
                raise UserError(
                    f"logger={name} cannot start a run: {reason_of(error)}. Leave it out of option logger, or set it "
                    "up (docs: Loggers)."
                ) from error
        if named := {one.name: one.run_id for one in self._opened if one.run_id}:
            write_json(self._folder / LOGGERS, {**known, **named})

    def _known(self) -> dict[str, str]:
        """Return the run's id by logger, if it is continued."""
        try:
            found = json.loads((self._folder / LOGGERS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s): the loggers begin a new run.", self._folder / LOGGERS, error)
            return {}
        return {str(name): str(run_id) for name, run_id in found.items()} if isinstance(found, dict) else {}

    def log(self, group_name: str, values: Mapping[str, float], epoch: int) -> None:
        """Pass values to all loggers.

        Args:
            group_name: What the values belong to: train, valid, best_valid or test.
            values: Name -> value.
            epoch: Epochs done.
        """
        named = {f"{group_name}/{name}": float(value) for name, value in values.items()}
        self._each(lambda one: one.log(named, epoch))

    def describe(self, options: Mapping[str, Any]) -> None:
        """Pass the options that RecBole passes to tensorboard to all loggers."""
        metric = RunOptions(self._config).valid_metric.lower()
        self._each(lambda one: one.describe(options, [f"best_valid/{metric}", f"test/{metric}"]))

    def close(self, status: str = "FINISHED") -> None:
        """Close all loggers; each is told how the run ended, in MLflow's words."""
        self._each(lambda one: one.close(status))
        self._opened = None

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self.close("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _each(self, action: Callable[[MetricLogger], None]) -> None:
        """Do something with every logger; what a server refuses is no reason to end a training."""
        for one in self._opened or ():
            try:
                action(one)
            except Exception as error:
                if isinstance(one, TensorboardLogger):  # a full disk, which is the run's own
                    raise
                logger.warning("%s rejected a value: %s.", one.name, reason_of(error))


class RecBoleWriter:
    """Stands for the tensorboard writer of RecBole's loops.

    They log a score as Vaild_score and a sum of losses as Loss/Train: only the options that they choose are kept.

    Args:
        loggers: The run's.
    """

    def __init__(self, loggers: Loggers) -> None:
        self._loggers = loggers

    def add_scalar(self, *args: Any) -> None:
        """Do nothing: the loggers get all values from the trainer."""

    def add_hparams(self, options: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Pass on the options."""
        self._loggers.describe({name: value for name, value in options.items() if value is not None})
