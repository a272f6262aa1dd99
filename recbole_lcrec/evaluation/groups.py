"""Groups of users of about equal size: by the length of their history, or by how popular their target is."""

from __future__ import annotations

import numpy as np

COLD_TARGET, COLD_USER = ("0, cold", 0), ("1–2, cold", 2)
"""(Name, highest value) of separate groups: targets without training interactions, and users with one or two
interactions before the test."""


def buckets(values: np.ndarray, count: int) -> list[tuple[float, float]]:
    """Return bounds (lowest, highest value inside) of groups of about equal size; equal values stay together.

    Args:
        values: What to group by, [n].
        count: Most groups; fewer if values repeat.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:], method="higher"))
    bounds, start = [], -np.inf
    for edge in edges:
        inside = values[(values > start) & (values <= edge)]
        if len(inside):
            bounds.append((float(inside.min()), float(inside.max())))
        start = edge
    return bounds


def groups(values: np.ndarray, count: int = 5, *, cold: tuple[str, int] | None = None) -> list[tuple[str, np.ndarray]]:
    """Return (name, mask of its values: bool [n]) of each group, ascending; every value is in one of them.

    Args:
        values: What to group by, [n].
        count: Most groups, not counting the cold one.
        cold: Name and highest value of a separate group; None for none.
    """
    name, highest = cold or ("", -np.inf)
    rest = values > highest
    found = [(name, ~rest)] if not rest.all() else []
    for low, high in buckets(values[rest], count) if rest.any() else []:
        name = f"{low:,.0f}" if low == high else f"{low:,.0f}–{high:,.0f}"
        found.append((name, (values >= low) & (values <= high) & rest))
    return found
