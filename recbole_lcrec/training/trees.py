"""RecBole's trainers of tree models (xgboost, lightgbm), with what an experiment asks of every trainer.

They have no optimizer, no epochs, no tensors and no training states, and each metric is RecBole's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from recbole_lcrec.evaluation.ranks import RankCollector
from recbole_lcrec.training.curve import LearningCurve
from recbole_lcrec.training.team import Alone


class TreeFeatures:
    """A mixin before one of RecBole's tree trainers.

    Args:
        config: The experiment's configuration.
        model: The model.
    """

    has_epochs = False
    keeps_states = False
    epochs_done = None
    users_per_second = None
    last_valid_result = None
    later_stages: ClassVar[dict[str, Any]] = {}
    team = Alone()

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        self.curve = LearningCurve()

    def starting(self, before_writing: Callable[[], None] | None = None) -> None:
        """Begin a training; ``before_writing`` is called at once."""
        if before_writing is not None:
            before_writing()

    def announce(self) -> None:
        """Do nothing: ``starting`` has announced that files will be written."""

    def evaluate(
        self,
        *args: Any,
        prompts: tuple[int, ...] | None = None,
        ranks: RankCollector | None = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as RecBole does: labels are predicted, so there are no wordings and no ranks."""
        return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def write_tensorboard_in(self, folder: Path) -> None:
        """Do nothing: RecBole has opened its own."""

    def close_tensorboard(self) -> None:
        """Close RecBole's writer."""
        self.tensorboard.close()  # type: ignore[attr-defined]
