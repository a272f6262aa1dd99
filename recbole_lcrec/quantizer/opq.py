"""Optimised product quantization (Ge et al. 2014): the embedding is rotated and cut into one part per level.

The levels are independent, so a code means the same after any other codes: the tokenizer of VQ-Rec and of
parallel generation (RPG). The first ``latent_dim`` principal components are cut, evenly among the levels. The rotation
starts with the components dealt out so that all parts carry about the same variance (Sec. 3.2 there), and then
alternates with k-means: given the codes, the best rotation is an orthogonal Procrustes problem, solved by an SVD
(Sec. 3.1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbole_lcrec.quantizer.costs import Costs, subspace_costs
from recbole_lcrec.quantizer.kmeans import (
    SAMPLE_PER_CODE,
    Projection,
    kmeans_centres,
    nearest_codes,
    one_thread,
    refined_centres,
)
from recbole_lcrec.quantizer.projected import ProjectedQuantizer, load_parts
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings

ROUNDS = 30  # of rotation and k-means; with 10, the error was up to 10% larger on some thousands of items
_LLOYD = 3  # k-means iterations per round, which start where the last ones ended


class OPQ(ProjectedQuantizer):
    """Optimised product quantization.

    Args:
        settings: Options of the quantizer.
        projection: From embeddings to their principal components.
        rotation: float32 [k', k'], orthogonal; components are zero-padded to k' dimensions, at least one per level.
        codebooks: float32 [K_l, k_l] per level; the k_l sum to k'.
    """

    def __init__(
        self, settings: QuantizerSettings, projection: Projection, rotation: np.ndarray, codebooks: list[np.ndarray]
    ) -> None:
        self.settings, self.projection, self.rotation, self.codebooks = settings, projection, rotation, codebooks

    @classmethod
    def fit_points(
        cls,
        points: np.ndarray,
        projection: Projection,
        used: list[int],
        settings: QuantizerSettings,
        rng: np.random.Generator,
    ) -> OPQ:
        """Fit rotation and codebooks, to a sample of a large catalogue."""
        sizes = settings.level_sizes
        points = _padded(points, len(sizes))
        if len(points) > SAMPLE_PER_CODE * max(sizes):
            points = points[np.sort(rng.choice(len(points), SAMPLE_PER_CODE * max(sizes), replace=False))]
        with one_thread():
            rotation, widths = _balanced(projection.variances, points.shape[1], len(sizes))
            cuts = np.cumsum(widths)[:-1]
            books = [
                kmeans_centres(np.ascontiguousarray(part), count, rng)
                for part, count in zip(np.split(points @ rotation, cuts, axis=1), used, strict=True)
            ]
            for _ in range(ROUNDS):
                rotation, books = _improved(points, rotation, books, cuts, rng)
        books = [_filled(book, size) for book, size in zip(books, sizes, strict=True)]
        return cls(settings, projection, rotation, books)

    def codes_of(self, embeddings: np.ndarray | None) -> np.ndarray:
        parts = self._parts(embeddings)
        return np.stack([nearest_codes(*pair) for pair in zip(parts, self.codebooks, strict=True)], axis=1)

    def costs_of(self, embeddings: np.ndarray | None) -> Costs:
        return subspace_costs(self._parts(embeddings), self.codebooks)

    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        parts = [book[codes[:, level]] for level, book in enumerate(self.codebooks)]
        points = np.concatenate(parts, axis=1) @ self.rotation.T
        return self.projection.invert(points[:, : self.projection.components.shape[1]])

    def more_arrays(self) -> dict[str, np.ndarray]:
        return {"rotation": self.rotation}

    @classmethod
    def load(cls, folder: Path) -> OPQ:
        settings, projection, books, arrays = load_parts(folder)
        return cls(settings, projection, arrays["rotation"], books)

    def _parts(self, embeddings: np.ndarray | None) -> list[np.ndarray]:
        """Return each level's part of the rotated embeddings, float32 [n, d_l]."""
        assert embeddings is not None
        points = _padded(self.projection.apply(embeddings), len(self.codebooks))
        cuts = np.cumsum([book.shape[1] for book in self.codebooks])[:-1]
        with one_thread():
            rotated = points @ self.rotation
        return [np.ascontiguousarray(part) for part in np.split(rotated, cuts, axis=1)]


def _padded(points: np.ndarray, least: int) -> np.ndarray:
    """Return points [n, d] zero-padded to at least ``least`` dimensions: every level needs one."""
    return np.pad(points, ((0, 0), (0, max(0, least - points.shape[1])))).astype(np.float32)


def _balanced(variances: np.ndarray, dimensions: int, n_parts: int) -> tuple[np.ndarray, list[int]]:
    """Return the permutation of components [dimensions, dimensions] that orders them by part, and the parts' widths.

    From the largest variance down, each component goes to the part with the smallest product of variances that still
    has room (the eigenvalue allocation of the paper); widths differ by at most 1.
    """
    padded = np.maximum(np.pad(variances, (0, dimensions - len(variances))), 1e-12)
    widths = [dimensions // n_parts + (part < dimensions % n_parts) for part in range(n_parts)]
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    products = np.zeros(n_parts)  # as logarithms, of variances in units of the smallest, so that none shrinks
    for component, weight in enumerate(np.log(padded / padded.min()) + 1e-3):
        with_room = [part for part in range(n_parts) if len(parts[part]) < widths[part]]
        chosen = min(with_room, key=lambda part: (products[part], part))
        parts[chosen].append(component)
        products[chosen] += weight
    order = [component for part in parts for component in part]
    return np.eye(dimensions, dtype=np.float32)[:, order], widths


def _improved(
    points: np.ndarray, rotation: np.ndarray, books: list[np.ndarray], cuts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return rotation and codebooks after one round: codes of the points, best rotation for them, k-means again."""
    parts = np.split(points @ rotation, cuts, axis=1)
    chosen = [book[nearest_codes(part, book)] for part, book in zip(parts, books, strict=True)]
    target = np.concatenate(chosen, axis=1)
    left, _, right = np.linalg.svd(points.T.astype(np.float64) @ target)
    rotation = (left @ right).astype(np.float32)
    parts = np.split(points @ rotation, cuts, axis=1)
    return rotation, [
        refined_centres(np.ascontiguousarray(part), book, rng, _LLOYD) if len(part) >= len(book) else book
        for part, book in zip(parts, books, strict=True)
    ]


def _filled(book: np.ndarray, size: int) -> np.ndarray:
    """Return a codebook of ``size`` codes: those that must not be used lie far away, each at its own distance."""
    missing = size - len(book)
    far = 100 * max(1.0, float(np.abs(book).max())) * (1 + np.arange(missing, dtype=np.float32) / max(1, missing))
    return np.concatenate([book, np.repeat(far[:, None], book.shape[1], axis=1)]).astype(np.float32)
