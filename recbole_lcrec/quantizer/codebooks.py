"""Where the RQ-VAE's codes start, and where those that no item uses start again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbole_lcrec.quantizer.autoencoder import ResidualAutoencoder, squared_distances
from recbole_lcrec.quantizer.kmeans import code_limit, fit_codebook


@torch.no_grad()
def initialise(model: ResidualAutoencoder, latents: Tensor, rng: np.random.Generator) -> None:
    """Set each codebook to the k-means centres of the residuals left by the levels before it.

    Args:
        model: Its codebooks are overwritten.
        latents: [n, latent_dim] of the whole catalogue.
        rng: Draws the sample and k-means' starting points.
    """
    residual = latents
    for level, codebook in enumerate(model.codebooks):
        used = code_limit(model.level_sizes, level, len(latents))
        codebook.copy_(torch.from_numpy(fit_codebook(residual.cpu().numpy(), len(codebook), used, rng)))
        nearest = squared_distances(residual, codebook).argmin(1)
        residual = residual - codebook[nearest]


@torch.no_grad()
def revive(
    model: ResidualAutoencoder, codes: np.ndarray, residuals: Tensor, rng: np.random.Generator
) -> list[np.ndarray]:
    """Move codes that no item uses onto residuals that are badly served; return which moved, per level.

    Residuals are drawn with probability proportional to the squared distance to their code, as in k-means++. Those
    already close to their code need none, and no level gets more codes than
    :func:`recbole_lcrec.quantizer.kmeans.code_limit` allows.

    Args:
        model: Its codebooks are changed in place.
        codes: [n, L] nearest codes of the catalogue.
        residuals: [n, L, d], the input of each level.
        rng: Draws the residuals.
    """
    moved = []
    for level, codebook in enumerate(model.codebooks):
        dead = np.flatnonzero(np.bincount(codes[:, level], minlength=len(codebook)) == 0)
        points = residuals[:, level]
        errors = (points - codebook[torch.from_numpy(codes[:, level])]).pow(2).sum(1)
        weights = errors.double().cpu().numpy()
        weights[weights < 1e-4 * float(points.pow(2).sum(1).mean())] = 0
        wanted = code_limit(model.level_sizes, level, len(codes)) - (len(codebook) - len(dead))
        count = max(0, min(wanted, int(np.count_nonzero(weights)) // 2))
        if count:
            rows = rng.choice(len(weights), count, replace=False, p=weights / weights.sum())
            codebook[torch.from_numpy(dead[:count])] = points[torch.from_numpy(rows)]
        moved.append(dead[:count])
    return moved
