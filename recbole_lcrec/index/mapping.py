"""Uniform semantic mapping: a path of its own for every item, at the least displacement (Sec. III-B.2 of the paper).

Items that share their first L-1 codes (a *prefix*) compete for the prefix's K last codes. The published code runs
Sinkhorn again on each group of colliding items, which assigns nearly random codes and leaves equal items equal. Here
each prefix is an assignment problem and is solved exactly: distinct last codes at the least summed cost. Where the
nearest codes are distinct already, they are that optimum and nothing is computed.

A prefix with more items than free codes first loses its surplus to its neighbours, by the rule of
:mod:`recbole_lcrec.index.spill`; n items fit n paths, so this always ends. The assignment is the optimum for the
prefixes that the items end up with, not over all paths of the catalogue: that would be one problem of n items and
K^L paths. On small catalogues that fill half to all of the paths, with 1% to 18% of the items spilled, the summed
squared displacement is on average 1.04 to 1.42 times that global optimum, 3.0 times at worst; the best possible spill
would reach 1.01 to 1.21 times (tests/index/test_spill.py bounds it).

Time grows with the number of items in prefixes that have a collision. Everything is deterministic, for any number
of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_lcrec.index.item_index import check_capacity
from recbole_lcrec.index.spill import group_ids, groups_of, spill
from recbole_lcrec.quantizer.costs import Costs, rows_at_once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mapping:
    """Result of the mapping.

    Attributes:
        codes: int64 [n, L], all rows distinct.
        moved: Number of items whose path is not the one they came with.
        spilled: Number of items that left their prefix because it was over-full; all of them are among the moved.
    """

    codes: np.ndarray
    moved: int
    spilled: int


def unique_paths(codes: np.ndarray, level_sizes: Sequence[int], costs: Costs) -> Mapping:
    """Give every item its own path.

    Args:
        codes: int64 [n, L], the nearest codes; may hold equal rows.
        level_sizes: Number of codes of each level.
        costs: :func:`residual_costs` or :func:`own_code_costs` of the quantizers.

    Returns:
        Distinct paths, with counts of what changed.

    Raises:
        UserError: If there are more items than paths.
        ValueError: If a code lies outside its level.
    """
    return add_paths(np.empty((0, len(level_sizes)), dtype=np.int64), codes, level_sizes, costs)


def add_paths(codes: np.ndarray, new_codes: np.ndarray, level_sizes: Sequence[int], costs: Costs) -> Mapping:
    """Give new items free paths near their neighbours; no existing path changes.

    Within a prefix, the new items are assigned its free last codes optimally. Those that find no room spill by the
    same rule as in :func:`unique_paths`.

    Args:
        codes: int64 [n, L], the existing paths, distinct.
        new_codes: int64 [m, L], the new items' nearest codes; may hold equal rows and existing paths.
        level_sizes: Codes of each level.
        costs: As for :func:`unique_paths`, with rows into the new items.

    Returns:
        The new items' paths [m, L] and counts of what changed.

    Raises:
        UserError: If there are more items, old and new, than paths.
        ValueError: If existing paths are equal, or a code lies outside its level.
    """
    n_fixed = len(codes)
    check_capacity(n_fixed + len(new_codes), level_sizes)
    mapped = np.concatenate([np.asarray(part, dtype=np.int64) for part in (codes, new_codes)])
    if mapped.ndim != 2 or ((mapped < 0) | (mapped >= np.array(level_sizes))).any():
        raise ValueError(f"codes must lie in 0 .. size - 1 of their level; the sizes are {tuple(level_sizes)}")
    if _equal_to_another(mapped[:n_fixed], level_sizes).any():
        raise ValueError("existing paths must be distinct")
    came = mapped[n_fixed:].copy()

    def shifted(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        return costs(rows - n_fixed, prefixes)

    spilled = spill(mapped, n_fixed, level_sizes, shifted)
    if len(spilled):
        logger.info("Item index: %d items moved out of prefixes with more items than codes.", len(spilled))
    unsettled = _equal_to_another(mapped, level_sizes)
    unsettled[spilled] = True
    _assign_last(mapped, n_fixed, unsettled, level_sizes, shifted)
    assert not _equal_to_another(mapped, level_sizes).any(), "the mapping must leave no two paths equal"
    result = mapped[n_fixed:]
    return Mapping(result, moved=int((result != came).any(axis=1).sum()), spilled=len(spilled))


def last_code_ranks(paths: np.ndarray, costs: Costs) -> np.ndarray:
    """Return how many last codes are nearer to each item than its own, int64 [n]; 0: it has the nearest.

    Args:
        paths: int64 [n, L].
        costs: Those with which the paths were made.
    """
    ranks = np.empty(len(paths), dtype=np.int64)
    step = rows_at_once(256)
    for start in range(0, len(paths), step):
        rows = np.arange(start, min(start + step, len(paths)))
        prices = costs(rows, paths[rows, :-1])
        ranks[rows] = (prices < np.take_along_axis(prices, paths[rows, -1:], axis=1)).sum(axis=1)
    return ranks


def _equal_to_another(codes: np.ndarray, level_sizes: Sequence[int]) -> np.ndarray:
    """Return a mask [n] of rows that are equal to another row."""
    ids = group_ids(codes, level_sizes)
    return np.bincount(ids)[ids] > 1


def _assign_last(
    mapped: np.ndarray, n_fixed: int, unsettled: np.ndarray, level_sizes: Sequence[int], costs: Costs
) -> None:
    """Solve the last level of every prefix that holds an unsettled row, in place; the ``n_fixed`` first rows stay."""
    from scipy.optimize import linear_sum_assignment

    ids = group_ids(mapped[:, :-1], level_sizes)
    affected = np.bincount(ids, weights=unsettled) > 0
    for chunk in _chunks(groups_of(ids, affected[ids]), rows_at_once(level_sizes[-1])):
        rows = np.concatenate(chunk)
        rows = rows[rows >= n_fixed]
        prices = costs(rows, mapped[rows, :-1])
        start = 0
        for group in chunk:
            n_old = int(group.searchsorted(n_fixed))
            old, new = group[:n_old], group[n_old:]
            options = prices[start : start + len(new)]
            start += len(new)
            if n_old:
                free = np.setdiff1d(np.arange(level_sizes[-1]), mapped[old, -1])
                mapped[new, -1] = free[linear_sum_assignment(options[:, free])[1]]
            else:
                mapped[new, -1] = linear_sum_assignment(options)[1]


def _chunks(groups: list[np.ndarray], n_rows: int) -> Iterator[list[np.ndarray]]:
    """Yield runs of groups with at least ``n_rows`` rows in all; only the last may have fewer."""
    chunk: list[np.ndarray] = []
    size = 0
    for group in groups:
        chunk.append(group)
        size += len(group)
        if size >= n_rows:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
