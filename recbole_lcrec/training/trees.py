"""RecBole's trainers of tree models (xgboost, lightgbm), with what an experiment asks of every trainer.

They have no optimizer, no epochs, no tensors and no training states, and each metric is RecBole's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.evaluation.ranks import RankCollector
from recbole_lcrec.training.chronicle import Chronicle
from recbole_lcrec.training.loggers import RecBoleWriter
from recbole_lcrec.training.team import Alone
from recbole_lcrec.utils.recbole_patches import no_tensorboard


class TreeFeatures:
    """A mixin listed before one of RecBole's tree trainers.

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
        with no_tensorboard():
            super().__init__(config, model)  # type: ignore[call-arg]
        self.chronicle = Chronicle(config, Path(RunOptions(config).checkpoint_dir))
        self.tensorboard = RecBoleWriter(self.chronicle.loggers)
        self._rounds = 0

    def starting(self, before_writing: Callable[[], None] | None = None, *, validates: bool = True) -> None:
        """Begin a training; ``before_writing`` is called at once."""
        if before_writing is not None:
            before_writing()
        self.chronicle.loggers.open()
        self.chronicle.start(validates=validates)

    def ended(self, best: dict[str, float] | None) -> None:
        """Report that the training is over."""
        self.chronicle.ended(best, best_epoch=None, bad_validations=None)

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

    def _train_at_once(self, *args: Any, **kwargs: Any) -> Any:
        """Grow the trees of an epoch, and count it."""
        result = super()._train_at_once(*args, **kwargs)  # type: ignore[misc]
        self._rounds += 1
        self.chronicle.reached(self._rounds, self.epochs)  # type: ignore[attr-defined]
        return result

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Validate, and report it."""
        score, result = super()._valid_epoch(*args, **kwargs)  # type: ignore[misc]
        best = self.best_valid_score  # type: ignore[attr-defined]
        better = score >= best if self.valid_metric_bigger else score <= best  # type: ignore[attr-defined]
        self.chronicle.validated(result, is_best=bool(better), best_epoch=None)
        return score, result
