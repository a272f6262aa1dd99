"""The course of a training: loss of each epoch, metrics of each validation, seconds since the start."""

from __future__ import annotations

import time
from typing import Any


class LearningCurve:
    """Notes what RecBole's loops report, whichever of its trainers runs them.

    Attributes:
        points: One per epoch: ``epoch``, ``seconds`` since the start of the training (with its validation),
            ``train_loss`` (mean over its steps), and ``valid`` (metrics) if the epoch ended with a validation.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []
        self._start = time.perf_counter()
        self._before = 0.0

    def take_up(self, points: list[dict[str, Any]]) -> None:
        """Go on with the points of an interrupted training."""
        self.points = list(points)
        self._before = float(points[-1]["seconds"]) if points else 0.0

    def start(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def trained(self, epoch: int, losses: Any) -> None:
        """Note an epoch's loss: a number, or a tuple of parts that are summed."""
        loss = sum(losses) if isinstance(losses, tuple) else losses
        self.points.append({"epoch": epoch, "seconds": self._seconds(), "train_loss": round(float(loss), 6)})

    def validated(self, result: dict[str, float]) -> None:
        """Note the metrics of the validation after the last epoch."""
        if self.points:
            self.points[-1] |= {"seconds": self._seconds(), "valid": dict(result)}

    def _seconds(self) -> float:
        return round(self._before + time.perf_counter() - self._start, 3)
