"""What it costs to give an item a code: the geometry behind the mapping, or the lack of it.

Distances, except those in subspaces, are computed pair by pair, not by a matrix product, whose last bits depend on the
batch and on the number of threads: equal latents must get equal costs, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recbole_lcrec.utils.errors import UserError

# costs(rows [m], prefixes int64 [m, l]) -> float64 [m, K_l]: what each code of level l costs these items after these
# prefixes
Costs = Callable[[np.ndarray, np.ndarray], np.ndarray]

CELLS = 2**21  # costs computed at once, 16 MB: limits memory, not the result


def rows_at_once(n_codes: int) -> int:
    """Return for how many items the costs of ``n_codes`` codes are computed at once."""
    return max(1, CELLS // n_codes)


def nearest_codes(latents: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the nearest code of every level's residual, int64 [n, L] (Eq. 2 and 3 of the paper), in chunks.

    Args:
        latents: [n, d], finite.
        codebooks: One [K_l, d] per level, finite.

    Raises:
        UserError: For NaN or infinity.
    """
    from scipy.spatial.distance import cdist

    books = _checked(latents, codebooks)
    codes = np.empty((len(latents), len(books)), dtype=np.int64)
    step = rows_at_once(max(map(len, books)))
    for start in range(0, len(latents), step):
        residuals = latents[start : start + step].astype(np.float64)
        for level, book in enumerate(books):
            chosen = cdist(residuals, book, "sqeuclidean").argmin(axis=1)
            residuals -= book[chosen]
            codes[start : start + step, level] = chosen
    return codes


def residual_costs(latents: np.ndarray, codebooks: Sequence[np.ndarray]) -> Costs:
    """Return squared distances between the codes and what a prefix leaves of an item's latent.

    On the last level, this is the path's whole displacement, |latent - sum of its codes|^2.

    Args:
        latents: [n, d], finite.
        codebooks: One [K_l, d] per level, finite.

    Raises:
        UserError: For NaN or infinity.
    """
    from scipy.spatial.distance import cdist

    books = _checked(latents, codebooks)

    def costs(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        level = prefixes.shape[1]
        residuals = latents[rows].astype(np.float64)
        for above in range(level):
            residuals -= books[above][prefixes[:, above]]
        return cdist(residuals, books[level], "sqeuclidean")

    return costs


def subspace_costs(parts: Sequence[np.ndarray], codebooks: Sequence[np.ndarray]) -> Costs:
    """Return squared distances between the codes of a level and the items' parts in that level's subspace.

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
    """Return costs for an index without geometry: less than 0 for an item's own code, 1 or slightly more for others.

    An earlier item gains more from its own code, so of equal paths the first is kept; of the other codes, the lowest
    free one is the cheapest, but by less than moving one more item costs. Under another prefix, no code is an item's
    own.

    Args:
        codes: int64 [n, L], the paths that the items came with.
        level_sizes: Codes of each level.
    """
    n = len(codes)

    def costs(rows: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        level = prefixes.shape[1]
        size = level_sizes[level]
        prices = np.tile(1 + np.arange(size) / (2.0 * n * size * size), (len(rows), 1))
        at_home = np.flatnonzero((codes[rows, :level] == prefixes).all(axis=1))
        own = rows[at_home]
        prices[at_home, codes[own, level]] = (own - n) / n
        return prices

    return costs


def _checked(latents: np.ndarray, codebooks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the codebooks as float64; refuse NaN and infinity, for which no assignment is optimal."""
    books = [np.asarray(book, dtype=np.float64) for book in codebooks]
    _check_finite(latents, "latents")
    for level, book in enumerate(books):
        _check_finite(book, f"codebook of level {level + 1}")
    return books


def _check_finite(values: np.ndarray, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise UserError(
            f"{what}: {len(bad)} of {len(values)} rows hold NaN or infinity (rows {rows}), expected finite numbers. "
            "The quantizer's training has diverged or its files are damaged: check the embeddings and train it again, "
            "if need be with a lower rqvae_learning_rate."
        )
