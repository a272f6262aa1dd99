"""Residual k-means: the RQ-VAE's levels without its autoencoder (as in QARM and OneRec).

Level 1 is k-means of the embeddings' first ``latent_dim`` principal components, every further level k-means of what
the levels before it leave.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.quantizer.base import Inputs, Quantizer, load_arrays, load_settings, save_state
from recbole_lcrec.quantizer.costs import Costs, residual_costs
from recbole_lcrec.quantizer.kmeans import Projection, code_limit, fit_codebook, nearest_codes
from recbole_lcrec.quantizer.settings import QuantizerSettings


class ResidualKMeans(Quantizer):
    """Residual k-means.

    Args:
        settings: Options of the quantizer.
        projection: From embeddings to what is quantized.
        codebooks: float32 [K_l, k] per level.
    """

    def __init__(self, settings: QuantizerSettings, projection: Projection, codebooks: list[np.ndarray]) -> None:
        self.settings, self.projection, self.codebooks = settings, projection, codebooks

    @property
    def input_dim(self) -> int:
        """Width of the embeddings it was fitted to."""
        return len(self.projection.mean)

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[ResidualKMeans, dict[str, Any]]:
        """Fit level by level, on one thread."""
        assert inputs.embeddings is not None
        rng = np.random.default_rng(seed)
        projection = Projection.fit(inputs.embeddings, settings.latent_dim)
        residual = projection.apply(inputs.embeddings)
        codebooks = []
        for level, size in enumerate(settings.level_sizes):
            used = code_limit(settings.level_sizes, level, inputs.n_items)
            codebooks.append(fit_codebook(residual, size, used, rng))
            residual = residual - codebooks[-1][nearest_codes(residual, codebooks[-1])]
        return cls(settings, projection, codebooks), {}

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

    def save(self, folder: Path) -> None:
        books = {f"codebook.{level}": book for level, book in enumerate(self.codebooks)}
        save_state(folder, {**self.projection.arrays(), **books}, self.settings)

    @classmethod
    def load(cls, folder: Path) -> ResidualKMeans:
        settings, _ = load_settings(folder)
        arrays = load_arrays(folder)
        books = [arrays[f"codebook.{level}"] for level in range(settings.num_levels)]
        return cls(settings, Projection.of(arrays), books)
