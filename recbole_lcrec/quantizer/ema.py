"""Codebooks that follow the residuals by moving averages instead of gradients (VQ-VAE-2, Razavi et al. 2019).

Each code keeps a decayed count of the residuals assigned to it and their decayed sum; its place is the quotient of the
two, an online k-means. The codebook term of the loss (Eq. 4 of the paper) is then not needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recbole_lcrec.quantizer.autoencoder import Quantized

DECAY = 0.95  # per step: an epoch has some ten steps, so a code remembers about two epochs
_LEAST_COUNT = 1e-3  # codes with a smaller count stay where they are


class MovingCodebooks:
    """Moving averages of every level's codes.

    Args:
        codebooks: One [K_l, d] per level, changed in place.
    """

    def __init__(self, codebooks: Sequence[Tensor]) -> None:
        self.codebooks = list(codebooks)
        self.counts = [book.new_zeros(len(book)) for book in self.codebooks]
        self.sums = [torch.zeros_like(book) for book in self.codebooks]

    @torch.no_grad()
    def update(self, batch: Quantized) -> None:
        """Move the codes towards the residuals that a batch assigned to them."""
        for level, book in enumerate(self.codebooks):
            # a product, not index_add_, whose order of additions is not fixed on GPUs
            given = functional.one_hot(batch.codes[:, level], len(book)).to(book.dtype)
            self.counts[level].mul_(DECAY).add_(given.sum(0), alpha=1 - DECAY)
            self.sums[level].mul_(DECAY).add_(given.T @ batch.residuals[:, level], alpha=1 - DECAY)
            counts = self.counts[level][:, None]
            book.copy_(torch.where(counts > _LEAST_COUNT, self.sums[level] / counts.clamp(min=_LEAST_COUNT), book))

    @torch.no_grad()
    def forget(self, moved: Sequence[np.ndarray]) -> None:
        """Reset the averages of codes that were moved; ``moved`` has their numbers, per level."""
        for level, codes in enumerate(moved):
            rows = torch.from_numpy(codes).to(self.counts[level].device)
            self.counts[level][rows] = 0
            self.sums[level][rows] = 0
