"""Small settings and catalogues for the tests of quantizer and index."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_lcrec.config.declared import defaults_of
from recbole_lcrec.config.registry import QUANTIZERS
from recbole_lcrec.quantizer import QuantizerSettings


def small_settings(**changes: Any) -> QuantizerSettings:
    """Return settings that train in a fraction of a second."""
    values: dict[str, Any] = {
        "num_levels": 3, "codebook_size": 16, "latent_dim": 8, "rqvae_layers": [32], "rqvae_beta": 0.25,
        "rqvae_loss_weight": 1.0, "rqvae_learning_rate": 0.003, "rqvae_weight_decay": 1e-4, "rqvae_batch_size": 128,
        "rqvae_epochs": 20, "rqvae_patience": 10, "sinkhorn_epsilon": 0.003, "sinkhorn_iterations": 20,
        "quantizer": "rqvae", "rqvae_codebook": "gradient", "rqvae_precision": "auto", "cid_clusters": 20,
    }  # fmt: skip
    kind = changes.get("quantizer", "rqvae")
    own = defaults_of(QUANTIZERS[kind])[0] if kind in QUANTIZERS else {}
    return QuantizerSettings(**{**values, "own": own, **changes})


def communities(n_items: int = 300, n_groups: int = 10, per_item: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Return sequences of 6 item rows; a sequence stays within a group, and item i belongs to group i % n_groups."""
    rng = np.random.default_rng(seed)
    members = [np.arange(group, n_items, n_groups) for group in range(min(n_groups, n_items))]
    count = max(1, n_items * per_item // 6)
    return [rng.choice(members[i % len(members)], size=6) for i in range(count)]


def clustered(n_items: int = 300, dimensions: int = 12, seed: int = 0) -> np.ndarray:
    """Return embeddings in ten loose clusters, float32 [n_items, dimensions]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(10, dimensions))
    return (centres[rng.integers(10, size=n_items)] + 0.3 * rng.normal(size=(n_items, dimensions))).astype(np.float32)
