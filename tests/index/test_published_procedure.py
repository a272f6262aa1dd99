"""Our mapping against the procedure of the published code, written here from its description.

After training, the published code runs Sinkhorn-Knopp again on the last level for each group of items that share a
path, up to 20 rounds, and keeps what is still equal then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quantizer.quantizer_helpers import small_settings

from recbole_lcrec.index.mapping import last_code_ranks, unique_paths
from recbole_lcrec.quantizer import train_rqvae
from recbole_lcrec.quantizer.costs import residual_costs

MINILM = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "Scientific" / "Scientific.minilm.npy"
ROUNDS, EPSILON, ITERATIONS = 20, 0.003, 50


def sinkhorn_codes(distances: np.ndarray) -> np.ndarray:
    """Return the code of each item of a group by Sinkhorn-Knopp on distances [n, K] scaled to [-1, 1]."""
    middle = (distances.max() + distances.min()) / 2
    scaled = (distances - middle) / (distances.max() - middle + 1e-5)
    plan = np.exp(-scaled / EPSILON)
    n, size = plan.shape
    plan /= plan.sum()
    for _ in range(ITERATIONS):
        plan /= plan.sum(axis=1, keepdims=True) * n
        plan /= plan.sum(axis=0, keepdims=True) * size
    return plan.argmax(axis=1)


def published(codes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Separate items that share a path, given distances [n, K] of the last level."""
    codes = codes.copy()
    for _ in range(ROUNDS):
        _, path, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        groups = np.flatnonzero(counts > 1)
        if not len(groups):
            break
        for group in groups:
            rows = np.flatnonzero(path.ravel() == group)
            codes[rows, -1] = sinkhorn_codes(distances[rows].astype(np.float64))
    return codes


def compare(latents: np.ndarray, books: list[np.ndarray]) -> dict[str, tuple[int, float]]:
    """Return (remaining collisions, mean rank) of both procedures."""
    costs, everything = residual_costs(latents, books), np.arange(len(latents))
    codes = np.empty((len(latents), 0), dtype=np.int64)
    for _ in books:
        codes = np.column_stack([codes, costs(everything, codes).argmin(axis=1)])
    distances = costs(everything, codes[:, :-1])
    theirs = published(codes, distances)
    ours = unique_paths(codes, [len(book) for book in books], costs).codes
    result = {}
    for name, paths in (("published", theirs), ("ours", ours)):
        left = len(paths) - len(np.unique(paths, axis=0))
        result[name] = (left, float(last_code_ranks(paths, costs).mean()))
    print(f"{len(codes) - len(np.unique(codes, axis=0))} collisions, then (left, mean rank): {result}")
    return result


def test_on_clusters_and_equal_items() -> None:
    rng = np.random.default_rng(0)
    books = [rng.normal(size=(16, 8)) * scale for scale in (4, 2, 1)]
    latents = sum(book[rng.integers(16, size=400)] for book in books) + 0.3 * rng.normal(size=(400, 8))
    latents[:12] = latents[0]
    result = compare(latents, books)
    assert result["ours"][0] == 0 < result["published"][0]
    assert result["ours"][1] <= result["published"][1]


@pytest.mark.slow
@pytest.mark.skipif(not MINILM.is_file(), reason="the shared data sets are not here")
def test_on_scientific() -> None:
    embeddings = np.load(MINILM)
    settings = small_settings(
        num_levels=4, codebook_size=256, latent_dim=32, rqvae_layers=[512, 256, 128], rqvae_epochs=60,
        rqvae_batch_size=512, rqvae_learning_rate=0.003,
    )  # fmt: skip
    model, _ = train_rqvae(embeddings, settings, seed=0, device="cpu", show_progress=False)
    books = [book.detach().numpy() for book in model.codebooks]
    result = compare(model.latents_of(embeddings).numpy(), books)
    assert result["ours"][0] == 0
    assert result["ours"][1] <= result["published"][1]
