from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from quantizer_helpers import clustered, small_settings

from recbole_lcrec.quantizer import RQVAE, train_rqvae
from recbole_lcrec.quantizer.autoencoder import Quantized
from recbole_lcrec.quantizer.codebooks import revive
from recbole_lcrec.quantizer.ema import MovingCodebooks
from recbole_lcrec.quantizer.kmeans import code_limit, kmeans_centres
from recbole_lcrec.quantizer.measures import collision_rate, perplexity
from recbole_lcrec.utils.errors import UserError


def train(embeddings: np.ndarray, seed: int = 1, **changes: object) -> tuple[RQVAE, dict]:
    return train_rqvae(embeddings, small_settings(**changes), seed=seed, device="cpu", show_progress=False)


@pytest.fixture(scope="module")
def trained() -> tuple[RQVAE, dict]:
    return train(clustered())


def codes_of(model: RQVAE, embeddings: np.ndarray) -> np.ndarray:
    return model.quantize(model.latents_of(embeddings)).codes.numpy()


def test_every_level_takes_the_nearest_code_of_what_is_left(trained: tuple[RQVAE, dict]) -> None:
    model, _ = trained
    latents = model.latents_of(clustered())
    result = model.quantize(latents)
    residual = latents.numpy()
    for level, codebook in enumerate(model.codebooks):
        book = codebook.detach().numpy()
        nearest = ((residual[:, None] - book[None]) ** 2).sum(-1).argmin(1)
        assert (nearest == result.codes[:, level].numpy()).mean() > 0.99  # rounding may swap near ties
        np.testing.assert_allclose(result.residuals[:, level].numpy(), residual, atol=1e-5)
        residual = residual - book[result.codes[:, level].numpy()]
    np.testing.assert_allclose(latents.numpy() - residual, result.vectors.numpy(), atol=1e-5)


def test_training_beats_the_mean_predictor_and_uses_its_codes(trained: tuple[RQVAE, dict]) -> None:
    _, report = trained
    assert report["relative_error"] < 0.3
    assert report["collision_rate"] < 0.4
    assert min(report["used_codes"]) >= 12
    assert min(report["perplexity"]) > 5


def test_gradients_reach_encoder_decoder_and_codebooks() -> None:
    model = RQVAE(12, small_settings())
    torch.nn.init.normal_(model.codebooks[0])
    error, loss = model(torch.from_numpy(clustered()))
    (error + loss).backward()
    for part in (model.encoder, model.decoder, model.codebooks):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_decoders_gradient_passes_straight_through() -> None:
    model = RQVAE(12, small_settings())
    error, _ = model(torch.from_numpy(clustered()))
    error.backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    assert model.codebooks[0].grad is None or model.codebooks[0].grad.abs().sum() == 0


def test_saved_state_gives_the_same_codes(trained: tuple[RQVAE, dict], tmp_path: Path) -> None:
    model, _ = trained
    model.save(tmp_path)
    loaded = RQVAE.load(tmp_path)
    assert loaded.settings == model.settings
    np.testing.assert_array_equal(codes_of(loaded, clustered()), codes_of(model, clustered()))


def test_without_sinkhorn_training_takes_the_nearest_codes() -> None:
    latents = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    plain, spread = RQVAE(12, small_settings(sinkhorn_iterations=0)), RQVAE(12, small_settings())
    for codebooks in zip(plain.codebooks, spread.codebooks, strict=True):
        for codebook in codebooks:
            torch.nn.init.normal_(codebook, generator=torch.Generator().manual_seed(1))
    latents = latents[:, : plain.codebooks[0].shape[1]]
    nearest = plain.quantize(latents).codes
    assert torch.equal(plain.quantize(latents, balance_last=True).codes, nearest)
    balanced = spread.quantize(latents, balance_last=True).codes
    assert torch.equal(balanced[:, :-1], nearest[:, :-1]) and not torch.equal(balanced[:, -1], nearest[:, -1])


def test_two_runs_are_equal_and_leave_global_generators_alone(trained: tuple[RQVAE, dict]) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    model, report = train(clustered())
    assert (torch.rand(1), np.random.rand()) == expected
    for name, value in trained[0].state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    drop = {"seconds"}
    assert {k: v for k, v in report.items() if k not in drop} == {k: v for k, v in trained[1].items() if k not in drop}


def test_another_seed_is_another_quantizer(trained: tuple[RQVAE, dict]) -> None:
    assert not np.array_equal(codes_of(train(clustered(), seed=2)[0], clustered()), codes_of(trained[0], clustered()))


def test_training_stops_when_nothing_gets_better() -> None:
    _, report = train(np.ones((20, 4), dtype=np.float32), rqvae_epochs=500, rqvae_patience=5)
    assert report["epochs"] <= 100 + 10


@pytest.mark.parametrize("n_items", [1, 2, 12])
def test_fewer_items_than_codes(n_items: int) -> None:
    embeddings = clustered(n_items)
    model, report = train(embeddings, codebook_size=256)
    assert report["collision_rate"] <= 0.25  # what is left is for the mapping
    assert codes_of(model, embeddings).shape == (n_items, 3)


def test_constant_embeddings() -> None:
    model, report = train(np.full((30, 4), 7.0, dtype=np.float32))
    assert report["collision_rate"] == pytest.approx(29 / 30)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_embeddings_of_any_scale() -> None:
    small, large = train(clustered() * 1e-3)[1], train(clustered() * 1e3)[1]
    assert small["relative_error"] == pytest.approx(large["relative_error"], abs=0.05)


def test_nan_is_refused() -> None:
    embeddings = clustered()
    embeddings[[3, 8], 0] = np.nan
    with pytest.raises(UserError, match=r"2 of 300 rows.*rows 3, 8"):
        train(embeddings)


def test_divergence_is_a_message() -> None:
    # importing some of RecBole's models switches anomaly detection on, which raises another error before
    with torch.autograd.set_detect_anomaly(False), pytest.raises(UserError, match="rqvae_learning_rate"):
        train(clustered(), rqvae_learning_rate=1e30)


def test_centres_of_few_points_are_the_points() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    centres = kmeans_centres(points, 8, np.random.default_rng(0))
    assert centres.shape == (8, 3) and centres.dtype == np.float32
    assert {tuple(row) for row in np.eye(3)} <= {tuple(row) for row in centres[:3].tolist()}
    assert len(np.unique(centres, axis=0)) == 8


def test_dead_codes_move_to_badly_served_residuals() -> None:
    model = RQVAE(4, small_settings(num_levels=2, codebook_size=4, latent_dim=2, rqvae_layers=[]))
    model.requires_grad_(False)
    points = torch.tensor([[0.0, 0.0], [0.0, 0.1], [9.0, 9.0], [-9.0, 9.0]])
    model.codebooks[0][1:] = 50.0  # everything falls on code 0
    result = model.quantize(points)
    moved = revive(model, result.codes.numpy(), result.residuals, np.random.default_rng(0))
    assert len(moved) == 2 and len(moved[0]) >= 1
    after = model.quantize(points)
    assert len(np.unique(after.codes[:, 0].numpy())) > 1
    assert float((points - after.vectors).pow(2).sum()) < float((points - result.vectors).pow(2).sum())


def test_a_small_catalogue_shares_codes_on_all_levels_but_the_last() -> None:
    model, report = train(clustered(60), codebook_size=64, rqvae_epochs=40)
    assert [code_limit(model.level_sizes, level, 60) for level in range(3)] == [15, 15, 64]
    assert max(report["used_codes"][:2]) <= 15 and report["used_codes"][2] > 15
    assert min(report["perplexity"][:2]) > 4


def test_moving_averages_end_at_the_mean_of_what_a_code_gets() -> None:
    books = [torch.tensor([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]])]
    averages = MovingCodebooks(books)
    residuals = torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]], [[4.0, 4.0]]])
    batch = Quantized(torch.tensor([[0], [0], [1]]), residuals, residuals[:, 0], torch.zeros(()))
    averages.update(batch)
    assert torch.allclose(books[0], torch.tensor([[2.0, 1.0], [4.0, 4.0], [9.0, 9.0]]))  # the last one got nothing
    books[0][0] = 50.0
    averages.forget([np.array([0])])
    averages.update(batch)
    assert torch.allclose(books[0][0], torch.tensor([2.0, 1.0]))  # of its old place nothing is left


def test_codebooks_by_moving_averages_train_as_well() -> None:
    model, report = train(clustered(), rqvae_codebook="ema")
    assert report["relative_error"] < 0.3 and min(report["used_codes"]) >= 12
    error, loss = model.requires_grad_(True)(torch.from_numpy(clustered()))
    (error + loss).backward()
    assert all(book.grad is None for book in model.codebooks)  # they move by averages, not by gradients


def test_bfloat16_trains_as_well_and_is_not_used_afterwards() -> None:
    model, report = train(clustered(), rqvae_precision="bfloat16")
    assert report["relative_error"] < 0.3
    assert model.latents_of(clustered()).dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("layers", "native", "expected"), [([1024], True, True), ([1024], False, False), ([512], True, False)]
)
def test_auto_precision(layers: list[int], native: bool, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_lcrec.quantizer import autoencoder

    monkeypatch.setattr(autoencoder, "native_bfloat16", lambda device: native)
    model = RQVAE(4, small_settings(rqvae_layers=layers))
    assert isinstance(model._precision(torch.device("cpu")), torch.autocast) == expected


def test_measures() -> None:
    codes = np.array([[0, 1], [0, 1], [0, 2], [1, 0]])
    assert collision_rate(codes) == 0.25
    assert perplexity(np.array([0, 1, 2, 3])) == pytest.approx(4)
    assert perplexity(np.zeros(9, dtype=int)) == pytest.approx(1)
