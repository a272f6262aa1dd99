"""Small catalogues whose prefixes run over, and what an optimum over all their paths would cost."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

DIM = 4


def case(
    seed: int, n_items: int, sizes: tuple[int, ...], clusters: int | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return latents and codebooks from k-means of the residuals, as a quantizer would have them."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n_items, DIM))
    if clusters:
        chosen = np.minimum(rng.geometric(0.4, size=n_items) - 1, clusters - 1)
        latents = rng.normal(size=(clusters, DIM))[chosen] + 0.3 * latents
    books, residuals = [], latents
    for size in sizes:
        n_centres = min(size, len(np.unique(residuals, axis=0)))
        book = KMeans(n_centres, n_init=1, random_state=seed).fit(residuals).cluster_centers_
        book = np.concatenate([book, rng.normal(size=(size - n_centres, DIM)) * residuals.std()])
        books.append(book)
        residuals = residuals - book[cdist(residuals, book, "sqeuclidean").argmin(1)]
    return latents, books


def displacement(latents: np.ndarray, books: list[np.ndarray], codes: np.ndarray) -> float:
    total = sum(book[codes[:, level]] for level, book in enumerate(books))
    return float(((latents - total) ** 2).sum())


def least_displacement(latents: np.ndarray, books: list[np.ndarray], codes: np.ndarray) -> tuple[float, float]:
    """Return the least displacement over all paths, and that with every prefix kept that is not over-full."""
    paths = np.array(list(itertools.product(*(range(len(book)) for book in books))))
    prices = cdist(latents, sum(book[paths[:, level]] for level, book in enumerate(books)), "sqeuclidean")
    anywhere = prices[linear_sum_assignment(prices)].sum()
    prefixes = [tuple(prefix) for prefix in codes[:, :-1].tolist()]
    items = Counter(prefixes)
    limited = prices.copy()
    for row, prefix in enumerate(prefixes):
        if items[prefix] <= len(books[-1]):
            limited[row, (paths[:, :-1] != np.array(prefix)).any(axis=1)] = 1e9
    return float(anywhere), float(prices[linear_sum_assignment(limited)].sum())
