"""What quantizers of principal components share: the components of the embeddings, and a codebook per level."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np

from recbole_lcrec.quantizer.base import Inputs, Quantizer, load_arrays, load_settings, save_state
from recbole_lcrec.quantizer.kmeans import Projection, code_limit
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings


class ProjectedQuantizer(Quantizer):
    """A quantizer fitted to the first ``latent_dim`` principal components of the embeddings.

    Attributes:
        projection: From embeddings to their principal components.
        codebooks: float32 [K_l, k_l] per level.
    """

    on_device = False
    projection: Projection
    codebooks: list[np.ndarray]

    @property
    def input_dim(self) -> int:
        """Width of the embeddings it was fitted to."""
        return len(self.projection.mean)

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[Self, dict[str, Any]]:
        """Fit to the embeddings' principal components, on one thread."""
        assert inputs.embeddings is not None
        rng = np.random.default_rng(seed)
        projection = Projection.fit(inputs.embeddings, settings.latent_dim)
        sizes = settings.level_sizes
        used = [code_limit(sizes, level, inputs.n_items) for level in range(len(sizes))]
        return cls.fit_points(projection.apply(inputs.embeddings), projection, used, settings, rng), {}

    @classmethod
    @abstractmethod
    def fit_points(
        cls,
        points: np.ndarray,
        projection: Projection,
        used: list[int],
        settings: QuantizerSettings,
        rng: np.random.Generator,
    ) -> Self:
        """Return a fitted quantizer.

        Args:
            points: Principal components of the embeddings, float32 [n, k].
            projection: The projection that gave them.
            used: How many of each level's codes may be used.
            settings: Options of the quantizer.
            rng: For random draws.
        """

    def save(self, folder: Path) -> None:
        books = {f"codebook.{level}": book for level, book in enumerate(self.codebooks)}
        save_state(folder, {**self.projection.arrays(), **self.more_arrays(), **books}, self.settings)

    def more_arrays(self) -> dict[str, np.ndarray]:
        """Return further arrays to save, by name."""
        return {}


def load_parts(folder: Path) -> tuple[QuantizerSettings, Projection, list[np.ndarray], dict[str, np.ndarray]]:
    """Return what ``save`` wrote: settings, projection, codebooks, and all arrays by name."""
    settings, _ = load_settings(folder)
    arrays = load_arrays(folder)
    books = [arrays[f"codebook.{level}"] for level in range(settings.num_levels)]
    return settings, Projection.of(arrays), books, arrays
