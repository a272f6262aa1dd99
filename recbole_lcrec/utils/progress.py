"""One progress bar for every long loop: rate and time left on the terminal, nothing when it is switched off."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress(iterable: Iterable[Any] | None = None, *, description: str, show: bool, **options: Any) -> Any:
    """Return a tqdm bar over ``iterable`` that vanishes when it is done.

    Args:
        iterable: What to loop over; None for a bar that is advanced by hand with ``update``.
        description: What is being done, shown at the left.
        show: False silences the bar (option ``show_progress: False``).
        options: Passed to tqdm (``total``, ``unit``, ...).
    """
    # in a log file, every refresh is a line of its own: a few per minute are enough, and none for short loops
    is_live = sys.stderr.isatty() or in_notebook()
    interval = 0.5 if is_live else 15.0
    return tqdm(
        iterable,
        desc=description,
        disable=not show,
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
        mininterval=interval,
        delay=0.0 if is_live else interval,
        **options,
    )


def in_notebook() -> bool:
    """Return whether bars are notebook widgets, which need ipywidgets."""
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
