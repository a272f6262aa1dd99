"""How long the uniform semantic mapping takes, up to a million items, and how it compares with a plain assignment.

Three kinds of latents: ``random`` (few collisions), ``clustered`` (clusters of very different size around k-means
codebooks) and ``crowded`` (8% of the prefixes have more items than codes). Codebooks are given; nearest codes are part
of what is timed.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from recbole_lcrec.index.mapping import last_code_ranks, unique_paths
from recbole_lcrec.progress import progress
from recbole_lcrec.quantizer.costs import residual_costs

SIZES = {"XS": 10_000, "S": 100_000, "M": 1_000_000}
LEVELS, CODES, DIMENSIONS = 4, 256, 32
_CHUNK = 65_536


def run(size: str) -> list[dict[str, Any]]:
    """Return one row of figures per kind of latents."""
    rows = []
    kinds = ("random", "clustered", "crowded")
    with progress(kinds, total=len(kinds), description=f"Index {size}", show=True, unit="kind") as bar:
        for kind in bar:
            rows.append(_measure(kind, SIZES[size]))
    return rows


def _measure(kind: str, n_items: int) -> dict[str, Any]:
    latents, books = catalogue(kind, n_items)
    started = time.perf_counter()
    codes = nearest_codes(latents, books)
    seconds_codes = time.perf_counter() - started
    costs = residual_costs(latents, books)
    started = time.perf_counter()
    mapping = unique_paths(codes, [CODES] * LEVELS, costs)
    seconds = time.perf_counter() - started
    assert len(np.unique(mapping.codes, axis=0)) == n_items, "every path must be unique"
    counts = np.unique(codes[:, :-1], axis=0, return_counts=True)[1]
    return {
        "kind": kind,
        "items": n_items,
        "over-full prefixes": float((counts > CODES).mean()),
        "collision rate": 1 - len(np.unique(codes, axis=0)) / n_items,
        "moved": mapping.moved,
        "spilled": mapping.spilled,
        "nearest codes s": seconds_codes,
        "mapping s": seconds,
        "items/s": n_items / (seconds + seconds_codes),
        "mean rank": float(last_code_ranks(mapping.codes, costs).mean()),
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def catalogue(kind: str, n_items: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return latents float32 [n, 32] and four codebooks [256, 32] that suit them."""
    rng = np.random.default_rng(seed)
    if kind == "crowded":
        books = [(scale * rng.normal(size=(CODES, DIMENSIONS))).astype(np.float32) for scale in (8, 4, 2, 1)]
        prefixes = np.unique(rng.integers(0, CODES, size=(max(n_items // 100, 20), LEVELS - 1)), axis=0)
        weights = rng.lognormal(0, 1.15, size=len(prefixes))
        chosen = prefixes[rng.choice(len(prefixes), n_items, p=weights / weights.sum())]
        latents = sum(book[chosen[:, level]] for level, book in enumerate(books[:-1]))
        return (latents + 0.8 * rng.normal(size=(n_items, DIMENSIONS))).astype(np.float32), books
    latents = rng.normal(size=(n_items, DIMENSIONS)).astype(np.float32)
    if kind == "clustered":
        centres = rng.normal(size=(max(n_items // 400, 4), DIMENSIONS)).astype(np.float32)
        weights = rng.pareto(1.2, size=len(centres)) + 0.02
        latents = centres[rng.choice(len(centres), n_items, p=weights / weights.sum())] + 0.05 * latents
    return latents, _codebooks(latents, rng)


def _codebooks(latents: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    from sklearn.cluster import KMeans

    residual = latents[rng.choice(len(latents), min(len(latents), 20_000), replace=False)]
    books = []
    for _ in range(LEVELS):
        fitted = KMeans(CODES, n_init=1, init="random", max_iter=5, random_state=0).fit(residual)
        books.append(fitted.cluster_centers_.astype(np.float32))
        residual = residual - books[-1][fitted.labels_]
    return books


def nearest_codes(latents: np.ndarray, books: list[np.ndarray]) -> np.ndarray:
    """Return the nearest code per level, int64 [n, L], computed in chunks."""
    codes = np.empty((len(latents), len(books)), dtype=np.int64)
    for start in range(0, len(latents), _CHUNK):
        residual = latents[start : start + _CHUNK].copy()
        for level, book in enumerate(books):
            chosen = ((book * book).sum(axis=1) - 2 * residual @ book.T).argmin(axis=1)
            codes[start : start + _CHUNK, level] = chosen
            residual -= book[chosen]
    return codes
