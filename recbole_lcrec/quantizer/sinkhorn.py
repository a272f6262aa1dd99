"""Sinkhorn-Knopp in the log domain: the soft, evenly spread assignment of a batch to codes (Sec. III-B.2, Eq. 6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Rounds per renewal of the kernel: one in logarithms (safe, slow), then matrix-vector rounds (ten times faster).
STRIDE = 10
_BOUND = 1e12


def sinkhorn_log(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return the log of the entropic optimal transport plan between a batch and the codes.

    Minimises sum q(c|r) |r - v_c|^2 - epsilon H(q) subject to sum_c q(c|r) = 1 and sum_r q(c|r) = B / K. Plain
    exp(-cost / epsilon) underflows to rows of zeros for small epsilon; here every tenth round is computed on
    logarithms, which stay finite, and the rounds in between rescale the resulting kernel (log-domain stabilised
    scaling, Schmitzer 2019): the same fixed point in a fraction of the time.

    Args:
        cost: [B, K] squared distances, finite. They are first divided by their largest value, so that epsilon means
            the same at every stage of training.
        epsilon: Strength of the entropy, relative to the largest cost.
        iterations: Rounds of column and row normalisation.

    Returns:
        log q [B, K], finite; rows sum to 1, columns to B / K as far as the iterations have converged.
    """
    log_q = -(cost / cost.max().clamp(min=torch.finfo(cost.dtype).tiny)) / epsilon
    column = cost.shape[0] / cost.shape[1]
    done = 0
    while done < iterations:
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True) + math.log(column)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
        done += 1
        rounds = min(STRIDE - 1, iterations - done)
        if rounds:
            log_q = _scaled(log_q, column, rounds)
            done += rounds
    return log_q - log_q.logsumexp(dim=1, keepdim=True)


def _scaled(log_q: Tensor, column: float, rounds: int) -> Tensor:
    """Normalise columns and rows ``rounds`` times by factors; the bounds matter only far from convergence."""
    kernel = log_q.exp()
    rows = log_q.new_ones(log_q.shape[0])
    columns = log_q.new_ones(log_q.shape[1])
    for _ in range(rounds):
        columns = (column / (rows @ kernel)).clamp(1 / _BOUND, _BOUND)
        rows = (1 / (kernel @ columns)).clamp(1 / _BOUND, _BOUND)
    return log_q + rows.log()[:, None] + columns.log()[None, :]
