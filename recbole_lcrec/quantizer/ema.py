"""Codebooks that follow the residuals by moving averages instead of gradients (VQ-VAE-2, Razavi et al. 2019).

Each code keeps a decayed count of the residuals it was given and a decayed sum of them; its place is their quotient,
an online k-means. The codebook term of the loss (Eq. 4 of the paper) is then not needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recbole_lcrec.quantizer.autoencoder import Quantized

DECAY = 0.95  # of a step: an epoch has some ten steps, so a code remembers about two epochs
_LEAST_COUNT = 1e-3  # codes that have been given less stay where they are


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
        """Move the codes towards what a batch gave them."""
        for level, book in enumerate(self.codebooks):
            # a product, not index_add_, whose order of additions is not fixed on GPUs
            given = functional.one_hot(batch.codes[:, level], len(book)).to(book.dtype)
            self.counts[level].mul_(DECAY).add_(given.sum(0), alpha=1 - DECAY)
            self.sums[level].mul_(DECAY).add_(given.T @ batch.residuals[:, level], alpha=1 - DECAY)
            counts = self.counts[level][:, None]
            book.copy_(torch.where(counts > _LEAST_COUNT, self.sums[level] / counts.clamp(min=_LEAST_COUNT), book))

    @torch.no_grad()
    def forget(self, moved: Sequence[np.ndarray]) -> None:
        """Start anew for codes that were put elsewhere: ``moved`` are their numbers, per level."""
        for level, codes in enumerate(moved):
            rows = torch.from_numpy(codes).to(self.counts[level].device)
            self.counts[level][rows] = 0
            self.sums[level][rows] = 0
