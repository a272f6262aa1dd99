"""The folder of a run's training states: the newest few, each whole, and the newest that can be trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recbole_lcrec.config import StageSettings
from recbole_lcrec.distributed import group
from recbole_lcrec.training.checkpoint import damage
from recbole_lcrec.utils.files import remove

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateSettings(StageSettings):
    """Options of the training states; each is explained in properties/overall.yaml."""

    checkpoint_every_n_steps: int | None
    keep_last: int
    keep_states: bool


class StateFolder:
    """Where a training writes its states, as ``step-<optimizer steps, 8 digits>``.

    Args:
        folder: The folder.
        settings: How many are kept, and how often they are written.
    """

    def __init__(self, folder: Path, settings: StateSettings) -> None:
        self.folder = folder
        self._settings = settings

    def is_due(self, steps_done: int) -> bool:
        """Return whether a state is wanted after this many optimizer steps, not only at the end of a pass."""
        every = self._settings.checkpoint_every_n_steps
        return every is not None and steps_done % every == 0

    def write(self, steps_done: int, save: Callable[[Path], None]) -> None:
        """Have ``save`` write a state; then remove the oldest beyond ``keep_last``."""
        save(self.folder / f"step-{steps_done:08d}")
        group.barrier()  # no process goes on or ends before it is whole
        if not group.is_main():
            return
        for old in self.all()[: -self._settings.keep_last]:
            remove(old)

    def all(self) -> list[Path]:
        """Return the states, oldest first."""
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []

    def newest_whole(self, suits: Callable[[Path], bool] = lambda _: True) -> Path | None:
        """Return the newest whole state that suits, after removing newer ones; None if there is none.

        Args:
            suits: Says whether a whole state can be used.
        """
        if self.folder.is_dir():
            for rest in self.folder.glob(".*"):  # what a killed process was writing or removing
                remove(rest)
        for path in reversed(self.all()):
            problem = damage(path)
            if problem is None and suits(path):
                return path
            if problem is not None:
                logger.warning("%s is cut short or damaged (%s) and not used.", path, problem)
            remove(path)
        return None
