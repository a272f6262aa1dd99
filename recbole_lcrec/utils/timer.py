"""Seconds per stage of a run, for result.json and the log; and how people say how long something takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StageTimer:
    """Adds up wall-clock seconds per named stage.

    Example:
        >>> timer = StageTimer()
        >>> with timer("embedding"):
        ...     vectors = embed()
        >>> timer.seconds["embedding"]
        1.27
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._open[stage] = time.perf_counter()
        try:
            yield
        finally:
            self.seconds = self.so_far()
            del self._open[stage]

    def so_far(self) -> dict[str, float]:
        """Return the seconds of all stages, including those that have not ended."""
        now = time.perf_counter()
        running = {stage: round(self.seconds.get(stage, 0.0) + now - start, 3) for stage, start in self._open.items()}
        return {**self.seconds, **running}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what an earlier process of the same run took."""
        for stage, more in seconds.items():
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + more, 3)


def in_words(seconds: float) -> str:
    """Return a duration with the digits that matter: "8.3 s", "45 s", "2.5 min", "12 min", "3.5 h"."""
    value, unit = (seconds, "s") if seconds < 100 else (seconds / 60, "min")
    if unit == "min" and value >= 100:
        value, unit = value / 60, "h"
    return f"{value:.{1 if value < 10 else 0}f} {unit}"
