"""Item vectors from training interactions alone: items that users have near each other get like vectors.

A truncated SVD of the positive pointwise mutual information (PPMI) of items within a window of a user's sequence,
which is roughly what word2vec with negative sampling factorises (Levy and Goldberg 2014). Only the given sequences are
read, so that no validation or test interaction can leak in as long as none is passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

_POWER_ITERATIONS = 6


def cache_key(sequences: Sequence[np.ndarray], dimensions: int, window: int, seed: int) -> list[Any]:
    """Return everything that the vectors depend on, apart from the number of items."""
    versions = [metadata.version(package) for package in ("scikit-learn", "scipy", "numpy")]
    return [*flat_sequences(sequences), dimensions, window, seed, _POWER_ITERATIONS, versions]


def flat_sequences(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences of item rows as one array, int64, and the length of each: a form suitable for a key."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    return np.concatenate([np.empty(0, dtype=np.int64), *sequences]).astype(np.int64), lengths


def embed(sequences: Sequence[np.ndarray], n_items: int, *, dimensions: int, window: int, seed: int) -> np.ndarray:
    """Return item vectors of length 1; items with no neighbour in any sequence get the mean of the others.

    Args:
        sequences: Item rows of each user's training interactions, in time order.
        n_items: Items of the catalogue.
        dimensions: Length of the vectors; less if there are fewer items.
        window: How far apart two interactions of a user may be and still count as neighbours.
        seed: Seed of the randomized SVD.

    Returns:
        float32 [n_items, d].
    """
    counts = cooccurrence(sequences, n_items, window)
    if not counts.nnz:
        return np.zeros((n_items, 1), dtype=np.float32)
    vectors = _reduce(ppmi(counts), dimensions, seed)
    lengths = np.linalg.norm(vectors, axis=1)
    present = lengths > 1e-6 * lengths.max()
    vectors[present] /= lengths[present, None]
    vectors[~present] = vectors[present].mean(axis=0)
    return vectors.astype(np.float32)


def cooccurrence(sequences: Sequence[np.ndarray], n_items: int, window: int) -> Any:
    """Return how often two items are at most ``window`` interactions apart, symmetric sparse float64 [n, n].

    The diagonal is 0: that a user comes back to an item says nothing about other items.
    """
    from scipy.sparse import csr_matrix

    items, lengths = flat_sequences(sequences)
    users = np.repeat(np.arange(len(lengths)), lengths)
    counts = csr_matrix((n_items, n_items), dtype=np.float64)
    for distance in range(1, min(window, max(lengths, default=0) - 1) + 1):
        same = (users[distance:] == users[:-distance]) & (items[distance:] != items[:-distance])
        first, second = items[:-distance][same], items[distance:][same]
        counts = counts + csr_matrix((np.ones(len(first)), (first, second)), shape=counts.shape)
    return counts + counts.T


def ppmi(counts: Any) -> Any:
    """Return max(0, log(p(i, j) / (p(i) p(j)))) for each pair that occurs, sparse float64 [n, n]."""
    from scipy.sparse import coo_matrix

    pairs = coo_matrix(counts)
    degrees = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(pairs.data * degrees.sum() / (degrees[pairs.row] * degrees[pairs.col]))
    kept = information > 0
    return coo_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape).tocsr()


def _reduce(matrix: Any, dimensions: int, seed: int) -> np.ndarray:
    """Return U S^1/2 of the truncated SVD of a symmetric sparse matrix [n, n], float64 [n, min(dimensions, n)]."""
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    # one thread: several would add up the sums in another order
    with threadpool_limits(limits=1):
        left, values, _ = randomized_svd(
            matrix,
            min(dimensions, matrix.shape[0]),
            n_iter=_POWER_ITERATIONS,
            random_state=seed % 2**32,
            flip_sign=True,
        )
    return left * np.sqrt(values)
