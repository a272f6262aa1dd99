"""Collaborative indexing (CID of P5, Hua et al. 2023, Sec. 4.3): paths from what users have together, without text.

Items are nodes of a graph whose edges count the users who have both in their training interactions. Spectral
clustering cuts the catalogue into ``cid_clusters`` clusters, each of them again, and so on: the codes of all levels
but the last name clusters. A cluster of at most ``cid_clusters`` items is cut no further: its items have code 0 on the
levels in between, and the last level numbers them in catalogue order.

Departures from P5: the number of levels is fixed, so clusters too large to be numbered below their prefix are cut into
as many pieces as needed; and all degrees are raised by their mean (regularised spectral clustering, Joseph and Yu
2016), without which the loosely connected items of a sparse graph are cut off one by one.

Items that share no user with another item have no place in the graph. They form a cluster of their own, the last one
of the first level, which is cut in catalogue order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_lcrec.embedding.collaborative import flat_sequences
from recbole_lcrec.quantizer.base import Inputs
from recbole_lcrec.quantizer.kmeans import one_thread
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.quantizer.random_paths import FixedPaths

_DENSE = 1500  # up to this many nodes, all eigenvectors are computed from the dense matrix, without iterations
_STARTS = 3  # starts of k-means, the best of which is taken


class CollaborativeIndexing(FixedPaths):
    """Paths by recursive spectral clustering of the training co-occurrence graph."""

    needs_sequences = True

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[CollaborativeIndexing, dict[str, Any]]:
        """Cluster the items of the training sequences, on one thread."""
        assert inputs.sequences is not None
        users = membership(inputs.sequences, inputs.n_items)
        with one_thread():
            codes = _Tree(users, settings, seed).codes
        alone = _alone(users)
        return cls(settings, codes), {"items_without_neighbours": int(alone.sum())}


def membership(sequences: Sequence[np.ndarray], n_items: int) -> Any:
    """Return the sparse matrix [n_sequences, n_items] with 1 for every item that a sequence holds (CSC)."""
    from scipy.sparse import csc_matrix

    items, lengths = flat_sequences(sequences)
    rows = np.repeat(np.arange(len(sequences)), lengths)
    matrix = csc_matrix((np.ones(len(items)), (rows, items)), shape=(len(sequences), n_items))
    matrix.data[:] = 1  # an item that a user has twice is counted once
    return matrix


def _alone(users: Any) -> np.ndarray:
    """Return a mask [n_items] of items that share no user with another item."""
    others = np.asarray(users.sum(axis=1)).ravel() - 1
    return users.T @ others <= 0


class _Tree:
    """One recursion over a catalogue.

    Args:
        users: Membership matrix [n_users, n_items].
        settings: Options of the quantizer.
        seed: Seed of eigenvectors and k-means.
    """

    def __init__(self, users: Any, settings: QuantizerSettings, seed: int) -> None:
        self.users, self.sizes, self.clusters, self.seed = users, settings.level_sizes, settings.cid_clusters, seed
        self.codes = np.zeros((users.shape[1], len(self.sizes)), dtype=np.int64)
        alone = _alone(users)
        self._place(np.flatnonzero(~alone), np.flatnonzero(alone), 0)

    def _place(self, items: np.ndarray, alone: np.ndarray, level: int) -> None:
        """Give the items of a cluster, and those without neighbours after them, their codes from ``level`` on."""
        n = len(items) + len(alone)
        if level == len(self.sizes) - 1 or n <= min(self.clusters, self.sizes[-1]):
            self.codes[np.sort(np.concatenate([items, alone])), -1] = np.arange(n)
            return
        room = math.prod(self.sizes[level + 1 :])
        groups = self._groups(items, alone, level, room)
        if len(groups) > self.sizes[level]:  # hardly more paths than items: even pieces, neighbours kept together
            groups = _pieces(np.concatenate(groups), room)
        no_items = np.empty(0, dtype=np.int64)
        for code, group in enumerate(groups):
            self.codes[group, level] = code
            in_graph = ~np.isin(group, alone)
            if in_graph.any():
                self._place(group, no_items, level + 1)
            else:
                self._place(no_items, group, level + 1)

    def _groups(self, items: np.ndarray, alone: np.ndarray, level: int, room: int) -> list[np.ndarray]:
        """Return clusters of at most ``room`` items, those of items without neighbours last."""
        most = min(self.clusters, self.sizes[level])
        parts: list[np.ndarray] = []
        if len(items):
            count = max(min(most - bool(len(alone)), len(items)), 1)
            points = spectral_points(self.users[:, items], count, self.seed)
            labels = _labels(points, count, self.seed)
            parts = [items[labels == label] for label in np.unique(labels)]
        if len(parts) <= 1 and not len(alone):  # nothing to tell them apart: even pieces in catalogue order
            parts = [np.concatenate([items, alone])]
            return _pieces(parts[0], min(room, math.ceil(len(parts[0]) / most)))
        if len(alone):
            parts += [alone] if len(items) else _pieces(alone, math.ceil(len(alone) / most))
        return [piece for part in parts for piece in _pieces(part, room)]


def _pieces(items: np.ndarray, most: int) -> list[np.ndarray]:
    """Return items in the smallest number of pieces of at most ``most``, of nearly equal size."""
    return np.array_split(items, math.ceil(len(items) / most))


def spectral_points(users: Any, dimensions: int, seed: int) -> np.ndarray:
    """Return the items of a sub-graph as points: rows of the top eigenvectors, scaled to length 1 (Ng et al. 2001).

    The matrix is D^-1/2 A D^-1/2 with the edges A = U'U without its diagonal and D the degrees plus their mean. It is
    never formed for many items: a product with it is two products with U.

    Args:
        users: Membership matrix U [n_users, n].
        dimensions: Number of eigenvectors, at most n.
        seed: Seed of the iteration's start.

    Returns:
        float64 [n, dimensions]; rows of 0 for items without an edge.
    """
    n = users.shape[1]
    counts = np.asarray(users.sum(axis=0)).ravel()
    degrees = users.T @ (users @ np.ones(n)) - counts
    scale = 1 / np.sqrt(np.maximum(degrees + degrees.mean(), 1e-12))
    if n <= max(_DENSE, 2 * dimensions):
        edges = (users.T @ users).toarray()
        np.fill_diagonal(edges, 0)
        _, vectors = np.linalg.eigh(edges * scale * scale[:, None])
        vectors = vectors[:, ::-1][:, :dimensions]
    else:
        from scipy.sparse.linalg import LinearOperator, eigsh

        def product(vector: np.ndarray) -> np.ndarray:
            scaled = scale * np.ravel(vector)
            return scale * (users.T @ (users @ scaled) - counts * scaled)

        start = np.random.default_rng(seed).normal(size=n)
        matrix = LinearOperator((n, n), matvec=product, dtype=np.float64)
        _, vectors = eigsh(matrix, k=dimensions, which="LA", v0=start, tol=1e-6, ncv=max(2 * dimensions + 1, 40))
        vectors = vectors[:, ::-1]
    vectors = np.where((degrees > 0)[:, None], vectors, 0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # an eigenvector that holds only rounding errors is not a direction
    return np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0)


def _labels(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return k-means clusters of points [n, d], numbered by their first occurrence in the catalogue."""
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(points, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly equal points give fewer clusters
        labels = KMeans(count, n_init=_STARTS, random_state=seed % 2**32).fit_predict(points)
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]
