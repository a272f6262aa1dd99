"""The mapping beside the published procedure: Sinkhorn again on each group of colliding items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.benchmarks.published import colliding_groups, sinkhorn, sinkhorn_paths
from recbole_lcrec.config.settings import restored
from recbole_lcrec.index.mapping import unique_paths
from recbole_lcrec.quantizer import QuantizerSettings, train_rqvae
from recbole_lcrec.quantizer.costs import nearest_codes, residual_costs

SCIENTIFIC = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "Scientific" / "Scientific.minilm.npy"


def mean_rank(codes: np.ndarray, latents: np.ndarray, books: list[np.ndarray]) -> float:
    """Return the mean number of last codes that are nearer to an item's residual than its own."""
    prices = residual_costs(latents, books)(np.arange(len(codes)), codes[:, :-1])
    return float((prices < prices[np.arange(len(codes)), codes[:, -1], None]).sum(axis=1).mean())


def without_path(codes: np.ndarray) -> int:
    return len(codes) - len(np.unique(codes, axis=0))


def compare(latents: np.ndarray, books: list[np.ndarray]) -> dict[str, float]:
    codes = nearest_codes(latents, books)
    ours = unique_paths(codes, [len(book) for book in books], residual_costs(latents, books)).codes
    published = sinkhorn_paths(codes, latents, books)
    assert (published[:, :-1] == codes[:, :-1]).all() and without_path(codes) > 0
    colliding = np.concatenate(colliding_groups(codes))
    return {
        "colliding": without_path(codes),
        "left": without_path(ours),
        "published left": without_path(published),
        "rank": mean_rank(ours, latents, books),
        "published rank": mean_rank(published, latents, books),
        "rank of colliding": mean_rank(ours[colliding], latents[colliding], books),
        "published rank of colliding": mean_rank(published[colliding], latents[colliding], books),
    }


@pytest.mark.parametrize("seed", range(3))
def test_never_worse_on_made_up_latents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    books = [scale * rng.normal(size=(32, 8)) for scale in (1.0, 0.5, 0.25)]
    centres = books[0][rng.integers(32, size=60)] + books[1][rng.integers(32, size=60)]
    latents = centres[rng.integers(60, size=600)] + 0.15 * rng.normal(size=(600, 8))
    found = compare(latents, books)
    assert found["left"] == 0 <= found["published left"]
    assert found["rank"] <= found["published rank"]


def test_equal_items_stay_equal_under_the_published_procedure() -> None:
    rng = np.random.default_rng(0)
    books = [rng.normal(size=(16, 8)) for _ in range(3)]
    found = compare(np.repeat(rng.normal(size=(5, 8)), 4, axis=0), books)
    assert found["published left"] == 15 and found["left"] == 0


def test_the_published_plan_is_spread_evenly() -> None:
    plan = sinkhorn(np.random.default_rng(0).uniform(size=(6, 6)))
    assert sorted(plan.argmax(axis=1).tolist()) == list(range(6))
    np.testing.assert_allclose(plan.sum(axis=0), 1, rtol=1e-6)


def test_never_worse_on_scientific() -> None:
    if not SCIENTIFIC.is_file():
        pytest.skip(f"{SCIENTIFIC} is not here")
    embeddings = np.load(SCIENTIFIC)
    settings = restored(QuantizerSettings, dict(
        num_levels=4, codebook_size=256, latent_dim=32, rqvae_layers=[256, 128], rqvae_beta=0.25,
        rqvae_loss_weight=1.0, rqvae_learning_rate=1e-3, rqvae_weight_decay=1e-4, rqvae_batch_size=1024,
        rqvae_epochs=12, rqvae_patience=12, sinkhorn_epsilon=0.003, sinkhorn_iterations=50,
    ))  # fmt: skip
    model, _ = train_rqvae(embeddings, settings, seed=0, device="cpu", show_progress=False)
    latents = model.latents_of(embeddings).numpy()
    found = compare(latents, [book.detach().numpy() for book in model.codebooks])
    assert found["left"] == 0 < found["published left"]
    assert found["rank"] <= found["published rank"]
    assert found["rank of colliding"] <= found["published rank of colliding"]
