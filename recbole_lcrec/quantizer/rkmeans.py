"""Residual k-means: the RQ-VAE's levels without its autoencoder (as in QARM and OneRec).

Level 1 is k-means of the embeddings' first ``latent_dim`` principal components, every further level k-means of the
residuals of the levels before it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbole_lcrec.quantizer.costs import Costs, residual_costs
from recbole_lcrec.quantizer.kmeans import Projection, fit_codebook, nearest_codes
from recbole_lcrec.quantizer.projected import ProjectedQuantizer, load_parts
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings


class ResidualKMeans(ProjectedQuantizer):
    """Residual k-means.

    Args:
        settings: Options of the quantizer.
        projection: From embeddings to the quantized points.
        codebooks: float32 [K_l, k] per level.
    """

    def __init__(self, settings: QuantizerSettings, projection: Projection, codebooks: list[np.ndarray]) -> None:
        self.settings, self.projection, self.codebooks = settings, projection, codebooks

    @classmethod
    def fit_points(
        cls,
        points: np.ndarray,
        projection: Projection,
        used: list[int],
        settings: QuantizerSettings,
        rng: np.random.Generator,
    ) -> ResidualKMeans:
        """Fit level by level."""
        residual, codebooks = points, []
        for size, limit in zip(settings.level_sizes, used, strict=True):
            codebooks.append(fit_codebook(residual, size, limit, rng))
            residual = residual - codebooks[-1][nearest_codes(residual, codebooks[-1])]
        return cls(settings, projection, codebooks)

    def codes_of(self, embeddings: np.ndarray | None) -> np.ndarray:
        assert embeddings is not None
        residual = self.projection.apply(embeddings)
        codes = []
        for codebook in self.codebooks:
            codes.append(nearest_codes(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return np.stack(codes, axis=1)

    def costs_of(self, embeddings: np.ndarray | None) -> Costs:
        assert embeddings is not None
        return residual_costs(self.projection.apply(embeddings), self.codebooks)

    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        return self.projection.invert(sum(book[codes[:, level]] for level, book in enumerate(self.codebooks)))

    @classmethod
    def load(cls, folder: Path) -> ResidualKMeans:
        settings, projection, books, _ = load_parts(folder)
        return cls(settings, projection, books)
