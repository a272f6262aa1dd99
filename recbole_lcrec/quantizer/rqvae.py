"""The residual-quantized variational autoencoder (RQ-VAE) as a quantizer, Sec. III-B.1 of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_lcrec.quantizer.autoencoder import ResidualAutoencoder
from recbole_lcrec.quantizer.base import Inputs, check_embeddings
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.quantizer.training import train


class RQVAE(ResidualAutoencoder):
    """Encoder, residual codebooks and decoder, trained on the catalogue."""

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[RQVAE, dict[str, Any]]:
        """Train; see :func:`train_rqvae`."""
        assert inputs.embeddings is not None
        return train_rqvae(inputs.embeddings, settings, seed=seed, device=device, show_progress=show_progress)


def train_rqvae(
    embeddings: np.ndarray, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
) -> tuple[RQVAE, dict[str, Any]]:
    """Fit an RQ-VAE to a catalogue.

    Departures from the paper: the autoencoder first trains a little without codes, so that k-means sees meaningful
    latents, a small catalogue uses only some of the codes, and training stops when the sum of collision rate and
    relative reconstruction error no longer improves.

    Args:
        embeddings: float32 [n, d], finite.
        settings: Options of the quantizer.
        seed: Seed of weights, batches, k-means and revival; global random generators are left alone.
        device: Where to train.
        show_progress: Whether to show a bar.

    Returns:
        The quantizer on the CPU in its best state, and the report of
        :func:`recbole_lcrec.quantizer.measures.quality` with ``epochs`` and ``seconds``.

    Raises:
        UserError: If the embeddings are not finite or the loss diverges.
    """
    check_embeddings(embeddings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators too
        model = RQVAE(embeddings.shape[1], settings)
    return model, train(model, embeddings, seed=seed, device=device, show_progress=show_progress)
