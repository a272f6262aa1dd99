"""How good an item index is, in figures: use of codes, collisions, reconstruction, near items that share codes.

A model trains for hours on an index; these figures take seconds and show beforehand what cannot work. They also serve
to compare two indices, or two states of a quantizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex, index_token
from recbole_lcrec.index.report.advice import warnings_of
from recbole_lcrec.quantizer.kmeans import expected_codes

QUERIES = 5_000  # items whose neighbours are looked up; a larger catalogue is sampled with a fixed seed
NEIGHBOURS = 10  # fewer in a catalogue of under 100 items: the nearest tenth
NEIGHBOUR_PREFIXES = 3  # prefixes of 1, 2 and 3 codes are compared
LARGEST_GROUPS, GROUP_EXAMPLES = 10, 8  # groups of colliding items that are listed, and items of each
_SIMILARITIES = 2**23  # computed at once: 32 MB


def index_quality(
    index: ItemIndex,
    *,
    titles: Sequence[str],
    embeddings: np.ndarray | None = None,
    nearest_codes: np.ndarray | None = None,
    build_report: Mapping[str, Any] | None = None,
    displacement_ranks: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure an item index.

    Row i of every argument is the item ``index.items[i]``. Parts whose input is None are None in the result.

    Args:
        index: The finished index.
        titles: One per item; "" if it has none.
        embeddings: [n, d], those that the quantizer was fitted to.
        nearest_codes: int64 [n, L] or [n, L-1], the codes before the mapping.
        build_report: ``reconstruction_error``, ``mean_predictor_error`` and ``relative_error`` are taken from it.
        displacement_ranks: int [n] or [moved items], how many codes are nearer to the item than the one it got; 0 for
            an item that kept its code.

    Returns:
        A JSON-ready dict, the same for the same input: ``items``, ``level_sizes``, ``paths``, ``inputs``, ``levels``,
        ``prefixes``, ``over_full``, ``collisions``, ``duplicates``, ``mapping``, ``reconstruction``, ``neighbours``
        and ``warnings``. Levels and lengths of prefixes count from 1; shares lie between 0 and 1.
    """
    n, n_levels = index.codes.shape
    assert len(titles) == n, f"{len(titles)} titles for {n} items"
    assert embeddings is None or embeddings.shape[0] == n, "one embedding per item"
    before = None if nearest_codes is None else np.asarray(nearest_codes, dtype=np.int64)
    assert before is None or before.shape in ((n, n_levels), (n, n_levels - 1)), "nearest codes of every item"
    same_text = _title_ids(titles)
    same_vector = None if embeddings is None else _row_ids(embeddings)
    quality: dict[str, Any] = {
        "items": n,
        "level_sizes": list(index.level_sizes),
        "paths": math.prod(index.level_sizes),
        "inputs": {
            "titles": sum(map(bool, titles)),
            "embeddings": embeddings is not None,
            "nearest_codes": before is not None,
            "nearest_levels": None if before is None else before.shape[1],
        },
        "levels": [_level(index, before, level) for level in range(n_levels)],
        "prefixes": [_prefix(index, before, length) for length in range(1, n_levels + 1)],
        "over_full": None if before is None else _over_full(before, index.level_sizes),
        "collisions": _collisions(index, before, titles, same_text, same_vector),
        "duplicates": _duplicates(same_text, same_vector, titles),
        "mapping": _mapping(index, before, displacement_ranks),
        "reconstruction": _reconstruction(build_report or {}),
        "neighbours": None if embeddings is None else _neighbours(index.codes, embeddings),
    }
    return {**quality, "warnings": warnings_of(quality)}


def _level(index: ItemIndex, before: np.ndarray | None, level: int) -> dict[str, Any]:
    size = index.level_sizes[level]
    nearest = None if before is None or level >= before.shape[1] else before[:, level]
    return {
        "level": level + 1,
        "letter": LEVEL_LETTERS[level],
        "size": size,
        "expected": expected_codes(len(index), size),
        "before": None if nearest is None else _code_use(nearest, size, level),
        "after": _code_use(index.codes[:, level], size, level),
    }


def _code_use(codes: np.ndarray, size: int, level: int) -> dict[str, Any]:
    from recbole_lcrec.quantizer.measures import perplexity

    counts = np.bincount(codes, minlength=size)
    top = int(counts.argmax())
    return {
        "used": int(np.count_nonzero(counts)),
        "perplexity": _round(perplexity(codes)),
        "top_code": index_token(level, top),
        "top_share": _round(counts[top] / len(codes)),
        "items_per_code": counts.tolist(),
    }


def _prefix(index: ItemIndex, before: np.ndarray | None, length: int) -> dict[str, Any]:
    nearest = None if before is None or length > before.shape[1] else before[:, :length]
    return {
        "length": length,
        "before": None if nearest is None else _occupancy(nearest),
        "after": _occupancy(index.codes[:, :length]),
    }


def _occupancy(prefixes: np.ndarray) -> dict[str, Any]:
    """Return how many items lie under each distinct prefix of ``prefixes`` [n, l]; the median is over prefixes."""
    counts = np.bincount(_group_ids(prefixes))
    quantiles = np.quantile(counts, [0.5, 0.9, 0.99], method="lower").astype(int).tolist()
    return {
        "distinct": len(counts),
        "mean": _round(counts.mean()),
        "median": quantiles[0],
        "p90": quantiles[1],
        "p99": quantiles[2],
        "max": int(counts.max()),
        "alone": _round(np.count_nonzero(counts == 1) / len(prefixes)),
    }


def _over_full(before: np.ndarray, level_sizes: Sequence[int]) -> dict[str, Any]:
    """Return how many prefixes of L-1 nearest codes hold more items than the last level has codes."""
    room = level_sizes[-1]
    counts = np.bincount(_group_ids(before[:, : len(level_sizes) - 1]))
    surplus = np.maximum(counts - room, 0)
    return {
        "room": room,
        "prefixes": int(np.count_nonzero(surplus)),
        "share": _round(np.count_nonzero(surplus) / len(counts)),
        "surplus_items": int(surplus.sum()),
    }


def _collisions(
    index: ItemIndex,
    before: np.ndarray | None,
    titles: Sequence[str],
    same_text: np.ndarray,
    same_vector: np.ndarray | None,
) -> dict[str, Any]:
    n = len(index)
    after = 1 - len(np.unique(index.codes, axis=0)) / n
    if before is None:
        return {"rate_before": None, "rate_after": _round(after)}
    paths = _group_ids(before)
    counts = np.bincount(paths)
    sizes, groups = np.unique(counts[counts > 1], return_counts=True)
    by_path = np.split(np.argsort(paths, kind="stable"), np.cumsum(counts)[:-1])
    shared = sorted((rows for rows in by_path if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))
    listed = [_group(rows, index, before, titles, same_text, same_vector) for rows in shared[:LARGEST_GROUPS]]
    return {
        "rate_before": _round(1 - len(counts) / n),
        "rate_after": _round(after),
        "items": int(counts[counts > 1].sum()),
        "groups": len(shared),
        "group_sizes": [[int(size), int(count)] for size, count in zip(sizes, groups, strict=True)],
        "groups_equal_embeddings": None
        if same_vector is None
        else sum(_all_equal(same_vector, rows) for rows in shared),
        "groups_equal_titles": sum(_all_equal(same_text, rows) for rows in shared),
        # what no quantizer could have avoided
        "rate_equal_embeddings": None if same_vector is None else _round(_explained(paths, same_vector)),
        "rate_equal_titles": _round(_explained(paths, same_text)),
        "largest": listed,
    }


def _explained(paths: np.ndarray, alike: np.ndarray) -> float:
    """Return the share of items that have both path and content of an earlier item."""
    return 1 - len(np.unique(np.stack([paths, alike], axis=1), axis=0)) / len(paths)


def _all_equal(ids: np.ndarray, rows: np.ndarray) -> bool:
    return bool((ids[rows] == ids[rows[0]]).all())


def _group(
    rows: np.ndarray,
    index: ItemIndex,
    before: np.ndarray,
    titles: Sequence[str],
    same_text: np.ndarray,
    same_vector: np.ndarray | None,
) -> dict[str, Any]:
    path = [index_token(level, code) for level, code in enumerate(before[rows[0]].tolist())]
    examples = rows[:GROUP_EXAMPLES].tolist()
    return {
        "path": "".join(path),
        "items": len(rows),
        "equal_embeddings": None if same_vector is None else _all_equal(same_vector, rows),
        "equal_titles": _all_equal(same_text, rows),
        "examples": [{"item": index.items[row], "title": titles[row]} for row in examples],
    }


def _duplicates(same_text: np.ndarray, same_vector: np.ndarray | None, titles: Sequence[str]) -> dict[str, Any]:
    n = len(same_text)
    return {
        "equal_embeddings": None if same_vector is None else n - len(np.unique(same_vector)),
        "equal_titles": n - len(np.unique(same_text)),
        "empty_titles": n - sum(map(bool, titles)),
    }


def _mapping(index: ItemIndex, before: np.ndarray | None, ranks: np.ndarray | None) -> dict[str, Any] | None:
    """Return what the mapping changed; an index of one level more than the quantizer only gained that level."""
    if before is None and ranks is None:
        return None
    result: dict[str, Any] = {"moved": None, "spilled": None, "ranks": None}
    if before is not None:
        changed = index.codes[:, : before.shape[1]] != before
        result["moved"] = int(changed.any(axis=1).sum())
        result["spilled"] = int(changed[:, : len(index.level_sizes) - 1].any(axis=1).sum())
    if ranks is not None:
        displaced = np.sort(np.asarray(ranks, dtype=np.int64)[np.asarray(ranks) > 0])
        values, counts = np.unique(displaced, return_counts=True)
        quantiles = np.quantile(displaced, [0.5, 0.9], method="lower").tolist() if len(displaced) else [0, 0]
        result["ranks"] = {
            "displaced": len(displaced),
            "median": int(quantiles[0]),
            "p90": int(quantiles[1]),
            "max": int(displaced[-1]) if len(displaced) else 0,
            "histogram": [[int(value), int(count)] for value, count in zip(values, counts, strict=True)],
        }
    return result


def _reconstruction(report: Mapping[str, Any]) -> dict[str, Any] | None:
    names = ("reconstruction_error", "mean_predictor_error", "relative_error")
    values = {name: None if report.get(name) is None else _round(report[name]) for name in names}
    return values if any(value is not None for value in values.values()) else None


def _neighbours(codes: np.ndarray, embeddings: np.ndarray) -> dict[str, Any] | None:
    """Return how often the nearest items by cosine share their first codes, and how often random pairs do."""
    n, n_levels = codes.shape
    k = min(NEIGHBOURS, n // 10)
    if k < 1:
        return None
    queries = np.arange(n)
    if n > QUERIES:
        queries = np.sort(np.random.default_rng(0).choice(n, QUERIES, replace=False))
    nearest = nearest_neighbours(np.asarray(embeddings, dtype=np.float32), queries, k)
    prefixes = []
    for length in range(1, min(NEIGHBOUR_PREFIXES, n_levels - 1) + 1):  # whole paths are distinct
        ids = _group_ids(codes[:, :length])
        counts = np.bincount(ids).astype(np.float64)
        share = float((ids[nearest] == ids[queries][:, None]).mean())
        chance = float((counts * (counts - 1)).sum() / (n * (n - 1)))
        lift = _round(share / chance) if chance > 0 else None
        prefixes.append({"length": length, "share": _round(share), "chance": _round(chance), "lift": lift})
    return {"queries": len(queries), "k": k, "prefixes": prefixes}


def nearest_neighbours(embeddings: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the ``k`` nearest other items by cosine, int64 [len(queries), k], in no particular order.

    Args:
        embeddings: float32 [n, d].
        queries: Rows whose neighbours are wanted.
        k: Less than n.
    """
    from threadpoolctl import threadpool_limits

    n = len(embeddings)
    assert 0 < k < n, (k, n)
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    chunk = max(1, _SIMILARITIES // n)
    found = []
    with threadpool_limits(limits=1):  # the sums of several threads differ in the last bit, and so might neighbours
        for start in range(0, len(queries), chunk):
            rows = queries[start : start + chunk]
            similarity = unit[rows] @ unit.T
            similarity[np.arange(len(rows)), rows] = -np.inf
            found.append(np.argpartition(similarity, n - k, axis=1)[:, n - k :])
    return np.concatenate(found)


def _group_ids(keys: np.ndarray) -> np.ndarray:
    """Return a number per row of ``keys`` [n, l], from 0 without gaps, equal for equal rows."""
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _row_ids(vectors: np.ndarray) -> np.ndarray:
    """Like :func:`_group_ids`, for wide rows of numbers: it compares bytes, which is many times faster."""
    rows = np.ascontiguousarray(np.asarray(vectors, dtype=np.float32) + 0.0)  # -0.0 becomes 0.0
    return np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}").reshape(-1), return_inverse=True)[1]


def _title_ids(titles: Sequence[str]) -> np.ndarray:
    """Return a number per title, equal for equal titles; a missing title equals no other."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(title, row) if title else row for row, title in enumerate(titles)])


def _round(value: Any) -> float:
    return round(float(value), 6)
