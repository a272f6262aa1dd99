"""Where codes start, and where those that no item uses start again."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from recbole_lcrec.quantizer.rqvae import RQVAE, squared_distances

SAMPLE_PER_CODE = 64  # residuals per code that k-means sees of a large catalogue
ITEMS_PER_CODE = 4  # items per code on every level but the last, at least; binds below 4 x K items


@torch.no_grad()
def initialise(model: RQVAE, latents: Tensor, rng: np.random.Generator) -> None:
    """Set each codebook to the k-means centres of the residuals that the levels before it leave.

    Args:
        model: Its codebooks are overwritten.
        latents: [n, latent_dim] of the whole catalogue.
        rng: Draws the sample and k-means' starting points.
    """
    residual = latents
    for level, codebook in enumerate(model.codebooks):
        points = residual.cpu().numpy()
        most = SAMPLE_PER_CODE * len(codebook)
        if len(points) > most:
            points = points[np.sort(rng.choice(len(points), most, replace=False))]
        used = code_limit(model, level, len(latents))
        centres = np.concatenate([kmeans_centres(points, used, rng), _parked(points, len(codebook) - used, rng)])
        codebook.copy_(torch.from_numpy(centres))
        nearest = squared_distances(residual, codebook).argmin(1)
        residual = residual - codebook[nearest]


def code_limit(model: RQVAE, level: int, n_items: int) -> int:
    """Return how many codes of a level a catalogue may use: one for every few items, all on the last level.

    With as many codes as items the first code would be the item's name and those after it noise: nothing shared,
    nothing to learn from.
    """
    size = len(model.codebooks[level])
    last = level == len(model.codebooks) - 1
    return size if last else min(size, max(2, math.ceil(n_items / ITEMS_PER_CODE)))


def _parked(points: np.ndarray, n_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Return places for codes that are not to be used: distinct, and too far away to be anybody's nearest code."""
    directions = rng.normal(size=(n_codes, points.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (100 * max(1.0, float(np.abs(points).max())) * directions).astype(np.float32)


def kmeans_centres(points: np.ndarray, n_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n_codes`` centres of points [n, d], float32 [n_codes, d].

    With fewer distinct points than codes, every point is a centre and the codes left over lie around them, so that
    the mapping finds distinct, nearby codes for items that share a path.
    """
    distinct = np.unique(points, axis=0)
    if len(distinct) <= n_codes:
        around = distinct[rng.integers(len(distinct), size=n_codes - len(distinct))]
        spread = max(float(points.std()), 1e-3)
        noise = rng.normal(scale=spread / np.sqrt(points.shape[1]), size=around.shape)
        return np.concatenate([distinct, around + noise]).astype(np.float32)
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    kmeans = KMeans(n_codes, n_init=1, max_iter=50, random_state=int(rng.integers(2**31)))
    # one thread: the sums of several are added in the order in which they finish
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly equal points give fewer clusters; revival deals with it
        return kmeans.fit(points).cluster_centers_.astype(np.float32)


@torch.no_grad()
def revive(model: RQVAE, codes: np.ndarray, residuals: Tensor, rng: np.random.Generator) -> int:
    """Move codes that no item uses onto residuals that are badly served; return how many moved.

    Residuals are drawn with a probability in proportion to their squared distance to their code, as k-means++ does.
    Those that lie on their code already need none, and no level gets more codes than :func:`code_limit` allows.

    Args:
        model: Its codebooks are changed in place.
        codes: [n, L] nearest codes of the catalogue.
        residuals: [n, L, d] what each level had to quantize.
        rng: Draws the residuals.
    """
    moved = 0
    for level, codebook in enumerate(model.codebooks):
        dead = np.flatnonzero(np.bincount(codes[:, level], minlength=len(codebook)) == 0)
        points = residuals[:, level]
        errors = (points - codebook[torch.from_numpy(codes[:, level])]).pow(2).sum(1)
        weights = errors.double().cpu().numpy()
        weights[weights < 1e-4 * float(points.pow(2).sum(1).mean())] = 0
        wanted = code_limit(model, level, len(codes)) - (len(codebook) - len(dead))
        count = min(wanted, np.count_nonzero(weights) // 2)
        if count > 0:
            rows = rng.choice(len(weights), count, replace=False, p=weights / weights.sum())
            codebook[torch.from_numpy(dead[:count])] = points[torch.from_numpy(rows)]
            moved += count
    return moved
