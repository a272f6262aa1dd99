"""What happens to prefixes with more items than codes: who leaves, and where to.

The rule is local and looks at each item once. From the first level down to the last prefix, every over-full prefix
loses its surplus, before anything deeper is looked at:

1. Which items leave: those whose move costs least: the cheapest path elsewhere minus what staying costs. On the last
   level, staying costs a code of its own, so an assignment problem over the prefix's items and free codes decides;
   above it, staying costs the item's cheapest code.
2. Elsewhere means: under a few prefixes with room, each reached by going up the tree and down again by the nearest
   codes with room: the ``NEIGHBOURS`` nearest ones below the over-full prefix's parent, one for every longer way up.
3. Where to: the leaving items go one after the other, the cheapest first (the lower row first among equals), each to
   the cheapest path elsewhere that is still free.

Afterwards each prefix that changed is solved again as a whole by :mod:`recbole_lcrec.index.mapping`. Time grows with
the number of items in over-full prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recbole_lcrec.quantizer.costs import Costs, rows_at_once

NEIGHBOURS = 4  # on small cases 2 and 8 are as good and 1 is worse
_MANY = 4096  # items of a prefix above which only those that an optimal assignment can use are assigned


class Occupancy:
    """How many items lie under each prefix, counted by parent and on demand.

    Args:
        codes: int64 [n, L] of all items. It is kept and read later: a first code of -1 marks an item without a path.
        level_sizes: Codes of each of the L levels.
    """

    def __init__(self, codes: np.ndarray, level_sizes: Sequence[int]) -> None:
        self.codes, self.level_sizes = codes, level_sizes
        self.depth = len(level_sizes) - 1
        # items that look for a place together: each compares several prefixes
        self.batch = max(1, rows_at_once(max(level_sizes)) // 16)
        # rooms[l]: paths under a prefix of l codes; no count exceeds the bound, and int64 holds it
        self.rooms = [min(math.prod(map(int, level_sizes[level:])), 2**62) for level in range(self.depth + 1)]
        self._order = np.lexsort(codes[:, :-1].T[::-1])
        self._homes = codes[:, :-1].copy()
        self._sorted = codes[self._order, :-1]
        self._children: dict[tuple[int, ...], np.ndarray] = {}
        self._used: dict[tuple[int, ...], np.ndarray] = {}

    def _range(self, prefix: tuple[int, ...]) -> tuple[int, int]:
        """Return the range of the sorted rows that began with ``prefix`` at the start."""
        low, high = 0, len(self._sorted)
        for level, code in enumerate(prefix):
            column = self._sorted[low:high, level]
            low, high = low + int(column.searchsorted(code)), low + int(column.searchsorted(code, side="right"))
        return low, high

    def children(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Return the number of items under each child of a prefix of fewer than L-1 codes, int64 [K]; a live view."""
        counts = self._children.get(prefix)
        if counts is None:
            low, high = self._range(prefix)
            column = self._sorted[low:high, len(prefix)]
            counts = np.diff(column.searchsorted(np.arange(self.level_sizes[len(prefix)] + 1)))
            self._children[prefix] = counts
        return counts

    def add(self, prefix: tuple[int, ...], number: int) -> None:
        """Add ``number``, perhaps a negative one, to the counts of a prefix and its ancestors."""
        for level in range(len(prefix)):
            self.children(prefix[:level])[prefix[level]] += number

    def leave(self, rows: np.ndarray, level: int) -> None:
        """Stop counting rows; their prefixes of up to ``level`` codes do not count them any more."""
        for path in self.codes[rows].tolist():
            for above in range(level, self.depth):
                self.children(tuple(path[:above]))[path[above]] -= 1
            if tuple(path[:-1]) in self._used:
                self._used[tuple(path[:-1])][path[-1]] -= 1

    def take(self, path: list[int]) -> None:
        """Count one more item with this path."""
        self.add(tuple(path[:-1]), 1)
        self.used(tuple(path[:-1]))[path[-1]] += 1

    def homes(self, rows: np.ndarray) -> np.ndarray:
        """Return the prefixes that rows had at the start, int64 [n, L-1]."""
        return self._homes[rows]

    def has_room(self, prefix: tuple[int, ...]) -> bool:
        """Return whether a prefix and all its ancestors have a free path."""
        return all(
            self.children(prefix[:level])[prefix[level]] < self.rooms[level + 1] for level in range(len(prefix))
        )

    def roomy(self, prefixes: np.ndarray) -> np.ndarray:
        """Return which children of prefixes [n, l], l < L-1, have a free path, bool [n, K]."""
        _, first, inverse = np.unique(group_ids(prefixes, self.level_sizes), return_index=True, return_inverse=True)
        counts = np.stack([self.children(tuple(prefix)) for prefix in prefixes[first].tolist()])
        return (counts < self.rooms[prefixes.shape[1] + 1])[inverse]

    def used(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Return how many items have each last code of a prefix of L-1 codes, int64 [K]; a live view."""
        counts = self._used.get(prefix)
        if counts is None:
            low, high = self._range(prefix)
            rows = self._order[low:high]
            here = self.codes[rows]
            here = here[(here[:, :-1] == np.array(prefix)).all(axis=1)]
            counts = np.bincount(here[:, -1], minlength=self.level_sizes[-1])
            self._used[prefix] = counts
        return counts


def spill(codes: np.ndarray, n_fixed: int, level_sizes: Sequence[int], costs: Costs) -> np.ndarray:
    """Move the surplus of over-full prefixes to prefixes with room, in place.

    Args:
        codes: int64 [n, L]; the first ``n_fixed`` rows are distinct paths that stay as they are.
        n_fixed: Rows that may not move.
        level_sizes: Codes of each level.
        costs: Takes rows of ``codes``, never fixed ones.

    Returns:
        Rows that moved, ascending. Their last codes were free when they came, but the prefix must be solved anew.
    """
    moved: list[np.ndarray] = []
    tree: Occupancy | None = None
    for level in range(1, len(level_sizes)):
        room = math.prod(map(int, level_sizes[level:]))
        groups = _over_full(codes, level, room, level_sizes)
        if not groups:
            continue
        tree = tree or Occupancy(codes, level_sizes)
        for rows in groups:  # over-full prefixes count as full from the start, so that no item plans to go there
            tree.add(tuple(codes[rows[0], :level].tolist()), room - len(rows))
        leaving = [_leaving(codes, rows[rows >= n_fixed], len(rows) - room, level, tree, costs) for rows in groups]
        rows, prices = (np.concatenate(parts) for parts in zip(*leaving, strict=True))
        moved.append(rows)
        _move(codes, rows[np.lexsort((rows, prices))], level, tree, costs)
    return np.sort(np.concatenate(moved)) if moved else np.empty(0, dtype=np.int64)


def _over_full(codes: np.ndarray, level: int, room: int, level_sizes: Sequence[int]) -> list[np.ndarray]:
    """Return the rows of each prefix of ``level`` codes with more than ``room`` items, both in ascending order."""
    if len(codes) <= room:
        return []
    ids = group_ids(codes[:, :level], level_sizes)
    return groups_of(ids, np.bincount(ids)[ids] > room)


def group_ids(keys: np.ndarray, level_sizes: Sequence[int]) -> np.ndarray:
    """Return a number per row of ``keys`` [n, l], equal for equal rows and ascending with them."""
    if math.prod(map(int, level_sizes[: keys.shape[1]])) < 2**63:  # then one number per row sorts like the row
        numbers = np.zeros(len(keys), dtype=np.int64)
        for level in range(keys.shape[1]):
            numbers = numbers * level_sizes[level] + keys[:, level]
        return np.unique(numbers, return_inverse=True)[1]
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    ids = np.empty(len(keys), dtype=np.int64)
    ids[order] = np.cumsum(np.r_[False, (ordered[1:] != ordered[:-1]).any(axis=1)])
    return ids


def groups_of(ids: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group, only those that ``chosen`` [n] picks: groups and rows ascending."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return []
    order = np.argsort(ids[rows], kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(ids[rows[order]])) + 1)


def _leaving(
    codes: np.ndarray, rows: np.ndarray, surplus: int, level: int, tree: Occupancy, costs: Costs
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``surplus`` rows of an over-full prefix that lose least by leaving, and their costs elsewhere."""
    elsewhere = np.concatenate([_elsewhere(part, level, tree, costs) for part in _parts(rows, tree.batch)])
    if level < tree.depth:
        here = np.concatenate([costs(part, codes[part, :-1]).min(axis=1) for part in _parts(rows, 16 * tree.batch)])
        leaving = np.sort(np.argsort(elsewhere - here, kind="stable")[:surplus])
    else:
        leaving = _not_kept(codes, rows, len(rows) - surplus, elsewhere, tree, costs)
    return rows[leaving], elsewhere[leaving]


def _not_kept(
    codes: np.ndarray, rows: np.ndarray, n_kept: int, elsewhere: np.ndarray, tree: Occupancy, costs: Costs
) -> np.ndarray:
    """Return the positions in ``rows`` that the best assignment of a prefix's free codes leaves without a code."""
    from scipy.optimize import linear_sum_assignment

    kept = np.empty(0, dtype=np.int64)
    if n_kept:
        free = np.flatnonzero(_fixed_codes(codes, rows, tree) == 0)
        assert len(free) == n_kept
        candidates = np.empty(0, dtype=np.int64)
        gains = np.empty((0, len(free)))
        for part in _parts(np.arange(len(rows)), 16 * tree.batch if len(rows) > _MANY else len(rows)):
            candidates = np.r_[candidates, part]
            prices = costs(rows[part], codes[rows[part], :-1])[:, free] - elsewhere[part, None]
            gains = np.concatenate([gains, prices])
            if len(rows) > _MANY:
                # the other codes take at most n_kept - 1 items, so one of a code's n_kept cheapest is always left
                # for it: what lies outside every code's cheapest can be dropped
                useful = np.unique(np.argsort(gains, axis=0, kind="stable")[:n_kept])
                candidates, gains = candidates[useful], gains[useful]
        kept = candidates[linear_sum_assignment(gains)[0]]
    return np.setdiff1d(np.arange(len(rows)), kept)


def _fixed_codes(codes: np.ndarray, rows: np.ndarray, tree: Occupancy) -> np.ndarray:
    """Return how many items other than ``rows``, which share a prefix, have each of its last codes, int64 [K]."""
    counts = tree.used(tuple(codes[rows[0], :-1].tolist()))
    return counts - np.bincount(codes[rows, -1], minlength=len(counts))


def _elsewhere(rows: np.ndarray, level: int, tree: Occupancy, costs: Costs) -> np.ndarray:
    """Return the cost of the cheapest path that each row would find outside its prefix of ``level`` codes, [n]."""
    prefixes, valid = _neighbours(rows, level, tree, costs)
    return np.where(valid, _prices(rows, prefixes, costs).min(axis=2), np.inf).min(axis=1)


def _prices(rows: np.ndarray, prefixes: np.ndarray, costs: Costs) -> np.ndarray:
    """Return the costs of the last codes under prefixes [n, m, L-1], [n, m, K]."""
    n, m, depth = prefixes.shape
    return costs(np.repeat(rows, m), prefixes.reshape(n * m, depth)).reshape(n, m, -1)


def _neighbours(rows: np.ndarray, level: int, tree: Occupancy, costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """Return where rows can go that leave their prefix of ``level`` codes, the nearest relatives first.

    Returns:
        Prefixes int64 [n, m, L-1], and which of them have room, bool [n, m].
    """
    prefixes, valid = [], []
    for start in reversed(range(level)):
        # the nearest relatives get more tries than more distant ones
        found, room = _descend(rows, start, NEIGHBOURS if start == level - 1 else 1, tree, costs)
        prefixes.append(found)
        valid.append(room)
    return np.concatenate(prefixes, axis=1), np.concatenate(valid, axis=1)


def _descend(rows: np.ndarray, start: int, width: int, tree: Occupancy, costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """Go down from each row's prefix of ``start`` codes, but not by its own next code: by the nearest code with room.

    Returns:
        The ``width`` nearest prefixes at the end, int64 [n, width, L-1], and which of them have room, bool [n, width].
    """
    prefixes = tree.homes(rows)[:, :start]
    valid = np.ones(len(rows), dtype=bool)
    while True:
        prices = costs(rows, prefixes)
        prices[~tree.roomy(prefixes)] = np.inf
        if prefixes.shape[1] == start:
            prices[np.arange(len(rows)), tree.homes(rows)[:, start]] = np.inf
        if prefixes.shape[1] == tree.depth - 1:
            break
        codes = prices.argmin(axis=1)
        valid &= np.isfinite(prices[np.arange(len(rows)), codes])
        prefixes = np.c_[prefixes, codes]
    nearest = prices.argmin(axis=1)[:, None] if width == 1 else np.argsort(prices, axis=1, kind="stable")[:, :width]
    valid = valid[:, None] & np.isfinite(np.take_along_axis(prices, nearest, axis=1))
    above = np.repeat(prefixes[:, None], nearest.shape[1], axis=1)
    return np.concatenate([above, nearest[..., None]], axis=2), valid


def _move(codes: np.ndarray, rows: np.ndarray, level: int, tree: Occupancy, costs: Costs) -> None:
    """Take ``rows`` out of their over-full prefixes of ``level`` codes and place them, in this order.

    Places are looked up for many rows at once. Room only shrinks, so a row's places are the same when its turn comes,
    unless one of them has filled up: then they are looked up again.
    """
    tree.leave(rows, level)
    codes[rows] = -1  # from here on they are nowhere
    for part in _parts(rows, tree.batch):
        prefixes, valid = _neighbours(part, level, tree, costs)
        prices = _prices(part, prefixes, costs)
        for turn, row in enumerate(part.tolist()):
            options, option_prices = prefixes[turn][valid[turn]], prices[turn][valid[turn]]
            if not all(map(tree.has_room, map(tuple, options.tolist()))):
                found, room = _neighbours(part[turn : turn + 1], level, tree, costs)
                options = found[0][room[0]]
                option_prices = _prices(part[turn : turn + 1], options[None], costs)[0]
            codes[row] = _take_cheapest(options, option_prices, tree)


def _take_cheapest(options: np.ndarray, prices: np.ndarray, tree: Occupancy) -> list[int]:
    """Take the cheapest free path under prefixes [m, L-1], by prices [m, K], and return it."""
    taken = np.stack([tree.used(tuple(option)) for option in options.tolist()]) > 0
    option, code = np.unravel_index(np.where(taken, np.inf, prices).argmin(), prices.shape)
    assert not taken[option, code], "a prefix with room has a free code"
    path = [*options[option].tolist(), int(code)]
    tree.take(path)
    return path


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
