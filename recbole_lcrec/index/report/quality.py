"""How good an item index is, in figures: use of codes, collisions, displacement, and what neighbours share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_lcrec.index.item_index import ItemIndex
from recbole_lcrec.index.report.advice import advice
from recbole_lcrec.quantizer.measures import collision_rate, perplexity

QUERIES, NEIGHBOURS = 5_000, 10
_CHUNK = 512  # query items whose similarities to the whole catalogue are held at once
_LARGEST_GROUPS = 10


def index_quality(
    index: ItemIndex,
    *,
    titles: Sequence[str],
    embeddings: np.ndarray | None = None,
    nearest_codes: np.ndarray | None = None,
    ranks: np.ndarray | None = None,
    build_report: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the figures of report.json; equal input gives equal figures.

    Args:
        index: The item index, its rows in the order of the other arguments.
        titles: One title per item; may be empty.
        embeddings: float32 [n, d] that the index was made from, or None: nothing is said of neighbours then.
        nearest_codes: int64 [n, L], the codes before the mapping, or None: nothing is said of collisions then. They
            have a level less than the index under ``index_mapping: digit``.
        ranks: int64 [n], how many last codes were nearer to the item than the one it got, or None.
        build_report: What building reported: reconstruction, moved and spilled items.
    """
    about = dict(build_report or {})
    report: dict[str, Any] = {
        "items": len(index),
        "level_sizes": list(index.level_sizes),
        "paths": float(np.prod([float(size) for size in index.level_sizes])),
        "levels": [_level(index.codes[:, level], size) for level, size in enumerate(index.level_sizes)],
        "prefixes": [_prefixes(index.codes, level) for level in range(1, len(index.level_sizes) + 1)],
        "collision_rate_after": collision_rate(index.codes),
        "before_mapping": None,
        "displacement": None,
        "neighbours": None,
        "build": {key: value for key, value in about.items() if key != "folder"},
    }
    if nearest_codes is not None:
        report["before_mapping"] = _before(nearest_codes, index, titles, embeddings)
    if ranks is not None:
        report["displacement"] = {
            "moved": about.get("moved"),
            "spilled": about.get("spilled"),
            "mean_rank": float(ranks.mean()),
            "ranks": _counts(np.minimum(ranks, 20)),
        }
    if embeddings is not None and len(index) > NEIGHBOURS:
        report["neighbours"] = _neighbours(index.codes, embeddings)
    report["warnings"] = advice(report)
    return report


def _level(codes: np.ndarray, size: int) -> dict[str, Any]:
    counts = np.bincount(codes, minlength=size)
    return {
        "size": int(size),
        "used": int((counts > 0).sum()),
        "perplexity": round(perplexity(codes), 2),
        "largest_share": float(counts.max() / len(codes)),
        "items_per_code": sorted(counts.tolist(), reverse=True),
    }


def _prefixes(codes: np.ndarray, length: int) -> dict[str, Any]:
    counts = np.unique(codes[:, :length], axis=0, return_counts=True)[1]
    quantiles = np.quantile(counts, [0.5, 0.9, 0.99]).tolist()
    return {
        "length": length,
        "distinct": len(counts),
        "items_median": quantiles[0],
        "items_90%": quantiles[1],
        "items_99%": quantiles[2],
        "items_max": int(counts.max()),
        "sizes": _counts(counts),
    }


def _counts(values: np.ndarray) -> list[list[int]]:
    """Return [value, how often] for each value that occurs, ascending."""
    found, counts = np.unique(values, return_counts=True)
    return [[int(value), int(count)] for value, count in zip(found, counts, strict=True)]


def _before(
    codes: np.ndarray, index: ItemIndex, titles: Sequence[str], embeddings: np.ndarray | None
) -> dict[str, Any]:
    """Describe the collisions of nearest codes, which the mapping then resolved."""
    sizes = index.level_sizes[: codes.shape[1]]
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    prefix_counts = np.unique(codes[:, :-1], axis=0, return_counts=True)[1]
    colliding = counts[group] > 1
    result: dict[str, Any] = {
        "collision_rate": collision_rate(codes),
        "levels": [_level(codes[:, level], size) for level, size in enumerate(sizes)],
        "colliding_items": int(colliding.sum()),
        "group_sizes": _counts(counts[counts > 1]),
        "over_full_prefixes": float((prefix_counts > sizes[-1]).mean()),
        "equal_titles": _with_equal(group[colliding], [titles[row] or None for row in np.flatnonzero(colliding)]),
        "equal_embeddings": None,
    }
    if embeddings is not None:
        vectors = [embeddings[row].tobytes() for row in np.flatnonzero(colliding)]
        result["equal_embeddings"] = _with_equal(group[colliding], vectors)
    largest = sorted(np.flatnonzero(counts > 1).tolist(), key=lambda g: (-int(counts[g]), g))[:_LARGEST_GROUPS]
    result["largest_groups"] = [
        {
            "items": int(counts[number]),
            "examples": [
                {"item": index.items[row], "title": titles[row]} for row in np.flatnonzero(group == number)[:5]
            ],
        }
        for number in largest
    ]
    return result


def _with_equal(groups: np.ndarray, values: Sequence[Any]) -> int:
    """Count the rows whose value (None: none) another row of the same group has."""
    pairs = [(int(group), value) for group, value in zip(groups, values, strict=True) if value is not None]
    often = Counter(pairs)
    return sum(often[pair] > 1 for pair in pairs)


def _neighbours(codes: np.ndarray, embeddings: np.ndarray) -> dict[str, Any]:
    """Say how often an item shares its first codes with its nearest neighbours (cosine), and what chance gives."""
    n = len(codes)
    queries = np.arange(n)
    if n > QUERIES:
        queries = np.sort(np.random.default_rng(0).choice(n, QUERIES, replace=False))
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    vectors = embeddings / np.where(lengths > 0, lengths, 1)
    nearest = np.empty((len(queries), NEIGHBOURS), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        rows = queries[start : start + _CHUNK]
        similarities = vectors[rows] @ vectors.T
        similarities[np.arange(len(rows)), rows] = -np.inf
        nearest[start : start + len(rows)] = np.argpartition(-similarities, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    shared = []
    for length in range(1, codes.shape[1]):
        same = (codes[queries][:, None, :length] == codes[nearest][:, :, :length]).all(axis=2)
        counts = np.unique(codes[:, :length], axis=0, return_counts=True)[1].astype(float)
        chance = float((counts * (counts - 1)).sum() / (n * (n - 1)))
        share = float(same.mean())
        shared.append(
            {"codes": length, "share": share, "chance": chance, "lift": share / chance if chance > 0 else None}
        )
    return {"neighbours": NEIGHBOURS, "queries": len(queries), "shared_codes": shared}
