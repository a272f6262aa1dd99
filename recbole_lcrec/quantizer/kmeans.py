"""k-means as every quantizer here uses it: seeded, on one thread, and defined for fewer points than codes."""

from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

SAMPLE_PER_CODE = 64  # points per code that k-means sees of a large catalogue
ITEMS_PER_CODE = 4  # least items per code on every level but the last; matters below 4 x K items
_CHUNK = 8192  # points whose distances are computed at once; limits memory
_ITERATIONS = 20  # later ones gain less than 1% of the error, and the training of an RQ-VAE moves the codes anyway


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    import sklearn.cluster  # noqa: F401  so that its pools are found, too
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which numpy and scikit-learn use one thread.

    Several threads add up their sums in the order in which they finish, or group them differently.
    """
    return _thread_pools().limit(limits=1)


def code_limit(level_sizes: tuple[int, ...], level: int, n_items: int) -> int:
    """Return how many codes of a level a catalogue may use: one for every few items; all, on the last level.

    With a code for every item, the first code would be the item's name and those after it noise: nothing shared,
    nothing to learn from.
    """
    size = level_sizes[level]
    last = level == len(level_sizes) - 1
    return size if last else expected_codes(n_items, size)


def expected_codes(n_items: int, size: int) -> int:
    """Return how many codes of a level of ``size`` codes a catalogue can be expected to use."""
    return min(size, max(2, math.ceil(n_items / ITEMS_PER_CODE)))


def fit_codebook(points: np.ndarray, size: int, used: int, rng: np.random.Generator) -> np.ndarray:
    """Return a level's codebook, float32 [size, d]: ``used`` k-means centres, followed by codes out of reach.

    Args:
        points: float32 [n, d], the input of the level. If there are many, only a sample is used.
        size: Number of codes of the level.
        used: Number of codes that may be used, at most ``size``.
        rng: Draws the sample and k-means' starting points.
    """
    most = SAMPLE_PER_CODE * size
    if len(points) > most:
        points = points[np.sort(rng.choice(len(points), most, replace=False))]
    return np.concatenate([kmeans_centres(points, used, rng), _parked(points, size - used, rng)])


def _parked(points: np.ndarray, n_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Return places for codes that must not be used: distinct, and too far away to be any item's nearest code."""
    directions = rng.normal(size=(n_codes, points.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (100 * max(1.0, float(np.abs(points).max())) * directions).astype(np.float32)


def kmeans_centres(points: np.ndarray, n_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n_codes`` centres of points [n, d], float32 [n_codes, d].

    With fewer distinct points than codes, every point is a centre and the remaining codes lie around them, so that the
    mapping finds distinct, nearby codes for items that share a path.
    """
    distinct = np.unique(points, axis=0)
    if len(distinct) <= n_codes:
        around = distinct[rng.integers(len(distinct), size=n_codes - len(distinct))]
        spread = max(float(points.std()), 1e-3)
        noise = rng.normal(scale=spread / np.sqrt(points.shape[1]), size=around.shape)
        return np.concatenate([distinct, around + noise]).astype(np.float32)
    with one_thread():
        start = points[plus_plus(points, n_codes, np.random.RandomState(_seed(rng)))]
    return refined_centres(points, start, rng, _ITERATIONS)


def plus_plus(points: np.ndarray, n_codes: int, random: np.random.RandomState) -> np.ndarray:
    """Return the rows of k-means++'s starting points, int64 [n_codes]: those that scikit-learn chooses.

    Arthur and Vassilvitskii 2007: of a few candidates, drawn in proportion to the squared distance to the nearest
    point chosen so far, the one that leaves the smallest sum of these distances. scikit-learn converts all points from
    float32 to float64 again for each choice, which takes most of its time; here they are converted once.

    Args:
        points: float32 [n, d].
        n_codes: Points to choose, at most n.
        random: Draws them.
    """
    n_trials, ones = 2 + int(np.log(n_codes)), np.ones(len(points), dtype=np.float32)
    exact = points.astype(np.float64)
    norms = np.einsum("ij,ij->i", exact, exact)

    def distances(rows: np.ndarray) -> np.ndarray:
        """Return the squared distances of some points to all, float32 [len(rows), n]."""
        found = (-2 * exact[rows]) @ exact.T
        found += norms[rows, None]
        found += norms
        return np.maximum(found.astype(np.float32), 0)

    chosen = np.empty(n_codes, dtype=np.int64)
    chosen[0] = random.choice(len(points), p=ones / ones.sum())
    nearest = distances(chosen[:1])
    sums = nearest @ ones
    nearest, left = nearest[0], sums[0]
    for number in range(1, n_codes):
        drawn = np.searchsorted(np.cumsum(nearest), random.uniform(size=n_trials) * left)
        candidates = np.minimum(drawn, len(points) - 1)  # rounding may carry the last one past the end
        reached = distances(candidates)
        np.minimum(reached, nearest, out=reached)
        sums = reached @ ones
        best = int(np.argmin(sums))
        chosen[number], nearest, left = candidates[best], reached[best], sums[best]
    return chosen


def refined_centres(points: np.ndarray, start: np.ndarray, rng: np.random.Generator, iterations: int) -> np.ndarray:
    """Return centres [K, d] after a few Lloyd iterations from ``start`` [K, d]; K must not exceed the points."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(len(start), init=start, n_init=1, max_iter=iterations, random_state=_seed(rng))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly equal points give fewer clusters, which is harmless here
        return kmeans.fit(points).cluster_centers_.astype(np.float32)


def nearest_codes(points: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Return the nearest code in [K, d] of each of points [n, d], int64 [n]; of equally near ones, the first."""
    chosen = np.empty(len(points), dtype=np.int64)
    norms = (codebook**2).sum(axis=1)
    with one_thread():
        for start in range(0, len(points), _CHUNK):
            chunk = points[start : start + _CHUNK]
            chosen[start : start + _CHUNK] = (norms - 2 * chunk @ codebook.T).argmin(axis=1)
    return chosen


@dataclass(frozen=True, eq=False)
class Projection:
    """Centres embeddings, scales them as a whole, and projects them onto their first principal components.

    The linear counterpart of the RQ-VAE's encoder. k-means of what earlier levels leave needs it: in hundreds of
    dimensions, most residuals end up in one cluster, with an outlier in each of the others.

    Attributes:
        mean: float32 [d].
        scale: float32 [], never 0. One scale for all dimensions: separate scales would blow up the least important
            dimensions of an SVD.
        components: float32 [d, k], orthonormal columns.
        variances: float64 [k], of the components, in descending order.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    variances: np.ndarray

    @classmethod
    def fit(cls, embeddings: np.ndarray, dimensions: int) -> Projection:
        """Fit to embeddings [n, d]; k is the smaller of ``dimensions`` and d."""
        mean = embeddings.mean(axis=0, dtype=np.float64)
        centred = embeddings - mean
        spread = float(np.sqrt((centred**2).mean()))
        scale = spread if spread > 1e-6 * float(np.sqrt((embeddings.astype(np.float64) ** 2).mean())) else 1.0
        with one_thread():
            variances, components = np.linalg.eigh(centred.T @ centred / (len(centred) * scale**2))
        variances, components = variances[::-1][:dimensions], components[:, ::-1][:, :dimensions]
        # the sign of an eigenvector is arbitrary: let its largest entry be positive
        signs = np.sign(components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])])
        return cls(
            mean.astype(np.float32),
            np.asarray(scale, dtype=np.float32),
            np.ascontiguousarray(components * signs, dtype=np.float32),
            np.maximum(variances, 0),
        )

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Return embeddings [n, d] as points, float32 [n, k]."""
        with one_thread():
            return ((embeddings - self.mean) / self.scale).astype(np.float32) @ self.components

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Return the embeddings [n, d] that points [n, k] stand for, float32."""
        return (points @ self.components.T * self.scale + self.mean).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays to save."""
        return {"mean": self.mean, "scale": self.scale, "components": self.components, "variances": self.variances}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Projection:
        """Return the projection that :meth:`arrays` described."""
        return cls(*(arrays[name] for name in ("mean", "scale", "components", "variances")))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
