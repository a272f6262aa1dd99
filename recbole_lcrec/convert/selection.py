"""Which interactions stay, and in which order they are written.

Interactions stay where they are; a mask of one byte each says which are kept. What needs sorting (repeated pairs,
time order) concerns one user at a time, so it is done for blocks of users, at bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recbole_lcrec.convert.columns import CHUNK, Column, Interactions

SORTED_ROWS = 1 << 21  # interactions sorted at once; about 100 bytes of memory each


def drop_low_ratings(keep: np.ndarray, ratings: Column, minimum: float) -> int:
    """Clear ``keep`` [n] where the rating is below ``minimum``; return how many."""
    before = int(keep.sum())
    for start, values in ratings.chunks():
        keep[start : start + len(values)] &= values >= minimum
    return before - int(keep.sum())


def drop_repeated_pairs(keep: np.ndarray, data: Interactions, which: str) -> int:
    """Keep one interaction of each user with each item: the ``first`` or ``last`` in time; return how many go.

    Among equal timestamps, the first (last) in the file counts as the first (last).
    """
    before = int(keep.sum())
    for rows in rows_in_order(keep, data):
        if which == "last":
            rows = rows[::-1]
        pairs = data.users[rows].astype(np.int64) * data.n_items + data.items[rows]
        _, first = np.unique(pairs, return_index=True)
        keep[rows] = False
        keep[rows[first]] = True
    return before - int(keep.sum())


def drop_outside_core(keep: np.ndarray, data: Interactions, k: int) -> int:
    """Clear ``keep`` outside the k-core, in which every user and item has at least k interactions; return how many.

    Users and items are counted again after every removal until nothing changes; the result does not depend on the
    order, because the largest such set is unique.
    """
    before = left = int(keep.sum())
    while left:
        good_users = _counts(data.users, keep, data.n_users) >= k
        good_items = _counts(data.items, keep, data.n_items) >= k
        for start in range(0, len(data), CHUNK):
            piece = slice(start, start + CHUNK)
            keep[piece] &= good_users[data.users[piece]] & good_items[data.items[piece]]
        remaining = int(keep.sum())
        if remaining == left:
            break
        left = remaining
    return before - left


def _counts(codes: np.ndarray, keep: np.ndarray, n_codes: int) -> np.ndarray:
    """Return how often each code occurs among the kept, int64 [n_codes], without copying the whole column."""
    counts = np.zeros(n_codes, np.int64)
    for start in range(0, len(codes), 8 * CHUNK):  # large pieces: every one makes an array of n_codes
        piece = slice(start, start + 8 * CHUNK)
        counts += np.bincount(codes[piece][keep[piece]], minlength=n_codes)
    return counts


def rows_in_order(keep: np.ndarray, data: Interactions) -> Iterator[np.ndarray]:
    """Yield the kept rows, block by block: by user (in order of first appearance), time, and place in the file."""
    counts = _counts(data.users, keep, data.n_users)
    ends = np.cumsum(counts)
    first = 0
    while first < data.n_users:
        done = int(ends[first - 1]) if first else 0
        # as many users as fit, and at least one
        last = max(int(np.searchsorted(ends, done + SORTED_ROWS, side="right")), first + 1)
        rows = _rows_of_users(keep, data.users, first, last)
        if len(rows):
            yield rows[np.lexsort((data.times.take(rows), data.users[rows]))]  # stable: rows ascend
        first = last


def _rows_of_users(keep: np.ndarray, users: np.ndarray, first: int, last: int) -> np.ndarray:
    parts = []
    for start in range(0, len(users), CHUNK):
        piece = users[start : start + CHUNK]
        parts.append(np.flatnonzero(keep[start : start + CHUNK] & (piece >= first) & (piece < last)) + start)
    return np.concatenate(parts)


def present(codes: np.ndarray, keep: np.ndarray, n_codes: int) -> np.ndarray:
    """Return which codes occur among the kept, bool [n_codes]."""
    found = np.zeros(n_codes, bool)
    for start in range(0, len(codes), CHUNK):
        piece = slice(start, start + CHUNK)
        found[codes[piece][keep[piece]]] = True
    return found
