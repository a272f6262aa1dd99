"""Seconds per stage of a run, for result.json and the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
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

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 3)
