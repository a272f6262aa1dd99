"""How the published LC-Rec code separates colliding items, as a yardstick for benchmarks and tests.

Written from the published procedure, not for use: it leaves collisions, and that is the point of comparing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

EPSILON, ITERATIONS, ROUNDS = 0.003, 50, 20  # as published


def sinkhorn_paths(codes: np.ndarray, latents: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Run Sinkhorn on each group of items with equal paths, up to 20 times, and take each item's best last code.

    Args:
        codes: int64 [n, L], nearest codes.
        latents: [n, d].
        codebooks: One [K_l, d] per level.

    Returns:
        int64 [n, L]; only last codes differ from ``codes``, and paths may still be equal.
    """
    codes = codes.copy()
    above = sum(book[codes[:, level]].astype(np.float64) for level, book in enumerate(codebooks[:-1]))
    residuals = latents.astype(np.float64) - above
    last = np.asarray(codebooks[-1], dtype=np.float64)
    for _ in range(ROUNDS):
        groups = colliding_groups(codes)
        if not groups:
            break
        for rows in groups:
            codes[rows, -1] = sinkhorn(cdist(residuals[rows], last, "sqeuclidean")).argmax(axis=1)
    return codes


def sinkhorn(distances: np.ndarray) -> np.ndarray:
    """Return the plan [B, K] for squared distances [B, K], centred and scaled to -1 .. 1 as published."""
    middle = (distances.max() + distances.min()) / 2
    plan = np.exp(-(distances - middle) / (distances.max() - middle + 1e-5) / EPSILON)
    n_items, n_codes = plan.shape
    plan /= plan.sum()
    for _ in range(ITERATIONS):
        plan /= plan.sum(axis=1, keepdims=True) * n_items
        plan /= plan.sum(axis=0, keepdims=True) * n_codes
    return plan * n_items


def colliding_groups(codes: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group of equal paths, of two items or more."""
    _, ids, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(ids.reshape(-1), kind="stable")
    return [rows for rows in np.split(order, np.cumsum(counts)[:-1]) if len(rows) > 1]
