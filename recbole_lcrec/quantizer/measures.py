"""How well codes describe a catalogue: collisions, use of the codes, and reconstruction error."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_lcrec.quantizer.base import Quantizer


def collision_rate(codes: np.ndarray) -> float:
    """Return (n - distinct paths) / n of codes [n, L]."""
    return 1 - len(np.unique(codes, axis=0)) / len(codes)


def perplexity(codes: np.ndarray) -> float:
    """Return exp(entropy) of the codes [n] of one level: the equivalent number of evenly used codes."""
    shares = np.bincount(codes) / len(codes)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def quality(quantizer: Quantizer, embeddings: np.ndarray | None) -> dict[str, Any]:
    """Measure how well a quantizer's codes describe a catalogue, before any mapping.

    Args:
        quantizer: A fitted quantizer, on the CPU.
        embeddings: float32 [n, d] of the catalogue; None without geometry.

    Returns:
        ``collision_rate``; ``used_codes`` and ``perplexity`` per level; ``reconstruction_error`` and
        ``mean_predictor_error``, mean squared errors in units of the embeddings' variance, and ``relative_error``,
        their quotient (0 if all embeddings are equal). The three errors are None without geometry.
    """
    codes = quantizer.codes_of(embeddings)
    report: dict[str, Any] = {
        "collision_rate": collision_rate(codes),
        "used_codes": [len(np.unique(level)) for level in codes.T],
        "perplexity": [round(perplexity(level), 2) for level in codes.T],
    }
    rebuilt = quantizer.reconstruct(codes)
    if rebuilt is None or embeddings is None:
        return report | {"reconstruction_error": None, "mean_predictor_error": None, "relative_error": None}
    exact = embeddings.astype(np.float64)
    spread = float(((exact - exact.mean(axis=0)) ** 2).mean())
    error = float(((rebuilt - exact) ** 2).mean())
    # nothing to describe where all embeddings are equal; their rounding errors are not a spread
    flat = spread <= 1e-12 * float((exact**2).mean())
    unit = 1.0 if flat else spread
    return report | {
        "reconstruction_error": error / unit,
        "mean_predictor_error": spread / unit,
        "relative_error": 0.0 if flat else error / spread,
    }
