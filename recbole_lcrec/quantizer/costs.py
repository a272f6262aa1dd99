"""What a code costs an item: the mapping asks this when items share a path and some have to take another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# costs(rows [m], prefixes int64 [m, l]) -> [m, K_l]: what each code of level l costs items whose path begins so
Costs = Callable[[np.ndarray, np.ndarray], np.ndarray]


def residual_costs(latents: np.ndarray, codebooks: Sequence[np.ndarray]) -> Costs:
    """Return squared distances between the codes and the residual that a prefix leaves of an item's latent.

    Args:
        latents: [n, d].
        codebooks: One [K_l, d] per level.
    """
    books = [np.asarray(book, dtype=np.float64) for book in codebooks]
    norms = [(book**2).sum(axis=1) for book in books]

    def costs(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        level = prefixes.shape[1]
        residuals = latents[rows].astype(np.float64)
        for above in range(level):
            residuals -= books[above][prefixes[:, above]]
        lengths = (residuals**2).sum(axis=1, keepdims=True)
        return np.maximum(lengths - 2 * residuals @ books[level].T + norms[level], 0)

    return costs


def subspace_costs(parts: Sequence[np.ndarray], codebooks: Sequence[np.ndarray]) -> Costs:
    """Return squared distances between the codes of a level and the items' part in that level's subspace.

    Args:
        parts: One [n, d_l] per level.
        codebooks: One [K_l, d_l] per level.
    """
    books = [np.asarray(book, dtype=np.float64) for book in codebooks]

    def costs(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        level = prefixes.shape[1]
        points, book = parts[level][rows].astype(np.float64), books[level]
        lengths = (points**2).sum(axis=1, keepdims=True)
        return np.maximum(lengths - 2 * points @ book.T + (book**2).sum(axis=1), 0)

    return costs


def own_code_costs(codes: np.ndarray, level_sizes: Sequence[int]) -> Costs:
    """Return costs for an index without geometry: less than 0 for an item's own code, 1 or little more for others.

    An earlier item gains more by its own code, so of equal paths the first is kept; of the other codes the lowest free
    one is the cheapest, by less than it costs to move any item more.

    Args:
        codes: int64 [n, L], the paths that the items came with.
        level_sizes: Codes of each level.
    """
    n = len(codes)

    def costs(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        level = prefixes.shape[1]
        size = level_sizes[level]
        prices = np.tile(1 + np.arange(size) / (2.0 * n * size * size), (len(rows), 1))
        own = np.flatnonzero((codes[rows, :level] == prefixes).all(axis=1))  # elsewhere an item's code is any code
        prices[own, codes[rows[own], level]] = (rows[own] - n) / n
        return prices

    return costs
