"""Uniform semantic mapping: a path of its own for every item, at the least displacement (Sec. III-B.2 of the paper).

Items that share their first L-1 codes (a *prefix*) compete for the prefix's K last codes. The published code runs
Sinkhorn again on each group of colliding items, which assigns nearly random codes and leaves equal items equal. Here
each prefix is an assignment problem and is solved exactly: distinct last codes at the least summed cost. Where the
nearest codes are distinct already, they are that optimum.

A prefix with more than K items first keeps the K that are cheapest to keep. Each of the others, in catalogue order,
goes up to its longest ancestor prefix whose subtree has room, and down again by the nearest code that has room; the
prefix it reaches is then solved with it. That is local and deterministic, and always ends: n items fit n paths.

Time grows with the number of items in prefixes that have a collision, not with the catalogue.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_lcrec.index.item_index import check_capacity
from recbole_lcrec.quantizer.costs import Costs

logger = logging.getLogger(__name__)

_CHUNK = 8192  # items whose costs are computed at once: 16 MB at 256 codes


@dataclass(frozen=True)
class Mapping:
    """Result of the mapping.

    Attributes:
        codes: int64 [n, L], all rows distinct.
        moved: Items whose path is not the one they came with.
        spilled: Those of them that left their prefix because it was over-full.
    """

    codes: np.ndarray
    moved: int
    spilled: int


def unique_paths(codes: np.ndarray, level_sizes: Sequence[int], costs: Costs) -> Mapping:
    """Give every item its own path.

    Args:
        codes: int64 [n, L], the nearest codes; may hold equal rows.
        level_sizes: Codes of each level.
        costs: One of :mod:`recbole_lcrec.quantizer.costs`.

    Returns:
        Paths that are distinct, with counts of what changed.

    Raises:
        UserError: If there are more items than paths.
    """
    check_capacity(len(codes), level_sizes)
    mapped = np.array(codes, dtype=np.int64)
    spilled = _spill(mapped, level_sizes, costs)
    unsettled = _equal_to_another(mapped)
    unsettled[spilled] = True
    _assign_last(mapped, unsettled, level_sizes[-1], costs)
    assert not _equal_to_another(mapped).any(), "the mapping must leave no two paths equal"
    return Mapping(mapped, moved=int((mapped != codes).any(axis=1).sum()), spilled=len(spilled))


def _group_ids(keys: np.ndarray) -> np.ndarray:
    """Return a number per row of ``keys`` [n, l], equal for equal rows and ascending with them."""
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    ids = np.empty(len(keys), dtype=np.int64)
    ids[order] = np.cumsum(np.r_[False, (ordered[1:] != ordered[:-1]).any(axis=1)])
    return ids


def _equal_to_another(codes: np.ndarray) -> np.ndarray:
    """Return a mask [n] of rows that are equal to another row."""
    ids = _group_ids(codes)
    return np.bincount(ids)[ids] > 1


def _groups(prefixes: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each prefix, of those that ``chosen`` [n] picks: prefixes ascending, rows ascending."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return []
    ids = _group_ids(prefixes[rows])
    order = np.argsort(ids, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(ids[order])) + 1)


def _spill(mapped: np.ndarray, level_sizes: Sequence[int], costs: Costs) -> np.ndarray:
    """Move the surplus of over-full prefixes to prefixes with room, in place; return the rows that moved.

    The last codes of moved rows mean nothing until their new prefix is solved.
    """
    prefixes = mapped[:, :-1]  # a view: writing to it moves items
    ids = _group_ids(prefixes)
    over_full = _groups(prefixes, np.bincount(ids)[ids] > level_sizes[-1])
    if not over_full:
        return np.empty(0, dtype=np.int64)
    kept = np.concatenate([_cheapest_to_keep(rows, prefixes, costs) for rows in over_full])
    spilled = np.setdiff1d(np.concatenate(over_full), kept)
    tree = Occupancy(np.delete(prefixes, spilled, axis=0), level_sizes)
    for row in spilled.tolist():
        prefixes[row] = tree.place(row, tuple(prefixes[row].tolist()), costs)
    logger.info("Item index: %d items moved out of prefixes with over %d items.", len(spilled), level_sizes[-1])
    return spilled


def _cheapest_to_keep(rows: np.ndarray, prefixes: np.ndarray, costs: Costs) -> np.ndarray:
    """Return those of an over-full prefix's rows that the least-cost assignment of all its last codes keeps."""
    from scipy.optimize import linear_sum_assignment

    kept, _ = linear_sum_assignment(costs(rows, prefixes[rows]))
    return rows[kept]


class Occupancy:
    """How many items lie under each prefix, and where one more can go.

    Args:
        prefixes: int64 [n, L-1] of the items that are placed; none is over-full.
        level_sizes: Codes of each of the L levels.
    """

    def __init__(self, prefixes: np.ndarray, level_sizes: Sequence[int]) -> None:
        self.depth = len(level_sizes) - 1
        # Python integers: eight levels of 1,000 codes exceed int64
        self.rooms = [math.prod(map(int, level_sizes[level:])) for level in range(self.depth + 1)]
        self.counts: Counter[tuple[int, ...]] = Counter()
        for level in range(self.depth + 1):
            self.counts.update(map(tuple, prefixes[:, :level].tolist()))

    def has_room(self, prefix: tuple[int, ...]) -> bool:
        """Whether a path that begins with ``prefix`` is free."""
        return self.counts.get(prefix, 0) < self.rooms[len(prefix)]

    def place(self, row: int, prefix: tuple[int, ...], costs: Costs) -> tuple[int, ...]:
        """Take room for an item as near to ``prefix`` (L-1 codes) as there is, and return the prefix it got.

        Up to the longest ancestor with room, then down by the nearest code with room.
        """
        while not self.has_room(prefix):
            prefix = prefix[:-1]
        while len(prefix) < self.depth:
            prices = costs(np.array([row]), np.array([prefix], dtype=np.int64))[0]
            nearest_first = np.argsort(prices, kind="stable").tolist()
            prefix = (*prefix, next(code for code in nearest_first if self.has_room((*prefix, code))))
        for level in range(self.depth + 1):
            self.counts[prefix[:level]] += 1
        return prefix


def _assign_last(mapped: np.ndarray, unsettled: np.ndarray, n_codes: int, costs: Costs) -> None:
    """Solve the last level of every prefix that holds an unsettled row, in place."""
    from scipy.optimize import linear_sum_assignment

    ids = _group_ids(mapped[:, :-1])
    affected = np.bincount(ids, weights=unsettled) > 0
    for chunk in _chunks(_groups(mapped[:, :-1], affected[ids])):
        rows = np.concatenate(chunk)
        prices = costs(rows, mapped[rows, :-1])
        start = 0
        for group in chunk:
            assert len(group) <= n_codes
            _, mapped[group, -1] = linear_sum_assignment(prices[start : start + len(group)])
            start += len(group)


def _chunks(groups: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield runs of groups of about ``_CHUNK`` rows in all."""
    chunk: list[np.ndarray] = []
    size = 0
    for group in groups:
        chunk.append(group)
        size += len(group)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
