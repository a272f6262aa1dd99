"""Importing large libraries in less time: half of what a run takes to its first step, when nothing has to be made."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_LARGE = 300
"""Modules that a large library imports."""


@contextmanager
def importing() -> Iterator[None]:
    """Import without Python's cycle collector, whose repeated passes over all objects take a third of the time.

    Objects of large libraries are kept out of its later passes, too. Existing garbage is collected first.
    """
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    before = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) > before + _LARGE:
            gc.freeze()
        gc.enable()


def import_metrics() -> None:
    """Import RecBole's metrics without scikit-learn, which three of them call: it is imported on the first call."""
    if "sklearn" in sys.modules or "recbole.evaluator.metrics" in sys.modules:
        return
    package, metrics = ModuleType("sklearn"), ModuleType("sklearn.metrics")
    for name in ("auc", "mean_absolute_error", "mean_squared_error"):
        setattr(metrics, name, _metric(name))
    sys.modules |= {"sklearn": package, "sklearn.metrics": metrics}
    try:
        import recbole.evaluator.metrics  # noqa: F401
    finally:
        del sys.modules["sklearn"], sys.modules["sklearn.metrics"]


def _metric(name: str) -> Callable[..., Any]:
    def metric(*args: Any, **kwargs: Any) -> Any:
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(*args, **kwargs)

    return metric
