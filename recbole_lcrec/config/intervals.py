"""Filters by intervals: ``[3,inf)``, ``(0,1];[3,4)``. What is not one is refused; RecBole would go on without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lcrec.utils.errors import shortened

Interval = tuple[str, float, float, str]
"""RecBole's form of an interval: ``("[", 3.0, inf, ")")``."""


def parse_intervals(text: str) -> list[Interval]:
    """Return the intervals that a text describes, separated by semicolons.

    Raises:
        ValueError: In a few words, for anything that is not an interval, and for one without any number inside.
    """
    return [_interval(part.strip()) for part in text.split(";")]


def _interval(part: str) -> Interval:
    ends = part[1:-1].split(",")
    if len(part) > 2 and part[0] in "([" and part[-1] in ")]" and len(ends) == 2:
        try:
            low, high = float(ends[0]), float(ends[1])
        except ValueError:
            low, high = float("nan"), float("nan")
        if low < high or (low == high and part[0] == "[" and part[-1] == "]"):
            return part[0], low, high, part[-1]
        if low >= high:
            raise ValueError(f"{shortened(part)} has no number inside")
    raise ValueError(f"{shortened(part)} is not an interval")


def problem(text: str) -> str | None:
    """Return what is wrong with a text of intervals, in a few words; None if nothing is."""
    try:
        parse_intervals(text)
    except ValueError as error:
        return f"and {error}"
    return None


def filter_columns(options: Mapping[str, Any]) -> set[str]:
    """Return the columns that filters read, which must be loaded for that."""
    return {*(options.get("val_interval") or {}), *(options.get("threshold") or {})}
