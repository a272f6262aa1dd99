"""What Ray Tune tells of the trials, written into the journal. Importing this imports Ray."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from recbole_lcrec.tuning.journal import CUT, FAILED, FINISHED, OVER, STOPPED, Journal
from recbole_lcrec.tuning.live import LiveTable

logger = logging.getLogger(__name__)

_DIED = "its process died"
_REPORTED = ("epoch", "score", "metrics", "seconds", "values", "copied", "node", "pid")


class Notes(Callback):
    """Writes the journal and refreshes the table.

    Args:
        journal: Gets every event.
        table: Shows the trials.
        folder: Where Ray keeps the trials' checkpoints, relative to the storage.
        ended: Called after a trial is over.
    """

    def __init__(self, journal: Journal, table: LiveTable, folder: str, ended: Callable[[], None]) -> None:
        self._journal, self._table, self._folder, self._ended = journal, table, folder, ended

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles what it is given for Tuner.restore; a search is restored from the journal

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Show the state."""
        self._table.refresh()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that a trial starts: anew, unless there is a checkpoint to continue from."""
        self._journal.write("started", str(trial), anew=self._journal.trials[str(trial)].checkpoint is None)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """Note a validation, or how a trial ended by itself."""
        name = str(trial)
        if "failed" in result:
            self._end(name, FAILED, result["failed"])
        elif "no_room" in result:
            self._end(name, CUT, result["no_room"])
        elif "finished" in result:
            self._end(name, FINISHED)
        elif "epoch" in result:
            saved = result.get("checkpoint_dir_name")
            checkpoint = {"checkpoint": f"{self._folder}/{name}/{saved}"} if saved else {}
            self._journal.write("reported", name, **{key: result.get(key) for key in _REPORTED}, **checkpoint)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that the scheduler stopped a trial, unless it ended by itself."""
        if self._journal.trials[str(trial)].status not in (*OVER, CUT):
            self._end(str(trial), STOPPED)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that the process of a trial died and is started again."""
        self._journal.write("crashed", str(trial), error=_DIED)
        self._table.clear()
        logger.warning("%s: its process died; the trial is started again.", trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that the process of a trial died too often."""
        name = str(trial)
        self._journal.write("crashed", name, error=_DIED)
        self._end(name, FAILED, f"{_DIED} {self._journal.trials[name].crashes} time(s)")

    def _end(self, name: str, status: str, error: str | None = None) -> None:
        self._journal.write("ended", name, status=status, error=error)
        self._table.ended(self._journal.trials[name])
        self._ended()
