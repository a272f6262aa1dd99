"""What holds for every quantizer, whatever it is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantizer_helpers import clustered, communities, small_settings

from recbole_lcrec.config.registry import QUANTIZERS
from recbole_lcrec.quantizer import Inputs, Quantizer, fit_quantizer, load_quantizer, quantizer_class
from recbole_lcrec.utils.errors import UserError

KINDS = sorted(QUANTIZERS.names)
WITH_GEOMETRY = [kind for kind in KINDS if quantizer_class(kind).has_geometry]


def fit(kind: str, embeddings: np.ndarray, seed: int = 1, **changes: Any) -> tuple[Quantizer, dict]:
    inputs = Inputs(len(embeddings), embeddings, communities(len(embeddings)), clustered(len(embeddings), 5, seed=3))
    return fit_quantizer(inputs, small_settings(**{"quantizer": kind, "rqvae_epochs": 10, **changes}), seed=seed)


@pytest.fixture(scope="module")
def fitted() -> dict[str, tuple[Quantizer, dict]]:
    return {kind: fit(kind, clustered()) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_codes_lie_in_their_levels_and_costs_follow_them(kind: str, fitted: dict) -> None:
    quantizer, report = fitted[kind]
    codes = quantizer.codes_of(clustered())
    assert codes.dtype == np.int64 and codes.shape == (300, 3)
    assert codes.min() >= 0 and (codes < 16).all()
    assert quantizer.level_sizes == (16, 16, 16) and quantizer.settings.quantizer == kind == report["quantizer"]
    costs, rows = quantizer.costs_of(clustered()), np.arange(0, 300, 7)
    for level in range(3):
        prices = costs(rows, codes[rows, :level])
        assert prices.shape == (len(rows), 16) and np.isfinite(prices).all()
        own = prices[np.arange(len(rows)), codes[rows, level]]
        np.testing.assert_allclose(own, prices.min(axis=1), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_gives_the_same_codes(kind: str, fitted: dict, tmp_path: Path) -> None:
    quantizer, _ = fitted[kind]
    quantizer.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantizer.json", "quantizer.safetensors"]
    assert json.loads((tmp_path / "quantizer.json").read_text())["quantizer"] == kind
    loaded = load_quantizer(tmp_path)
    assert type(loaded) is type(quantizer) and loaded.settings == quantizer.settings
    np.testing.assert_array_equal(loaded.codes_of(clustered()), quantizer.codes_of(clustered()))
    rows = np.arange(300)
    prefixes = quantizer.codes_of(clustered())[:, :1]
    first, second = (one.costs_of(clustered())(rows, prefixes) for one in (loaded, quantizer))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_two_fits_are_equal_and_leave_global_generators_alone(kind: str, fitted: dict) -> None:
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    quantizer, report = fit(kind, clustered())
    assert np.random.rand() == expected
    np.testing.assert_array_equal(quantizer.codes_of(clustered()), fitted[kind][0].codes_of(clustered()))
    assert {**report, "seconds": 0} == {**fitted[kind][1], "seconds": 0}


@pytest.mark.parametrize("kind", WITH_GEOMETRY)
def test_codes_describe_the_embeddings(kind: str, fitted: dict) -> None:
    quantizer, report = fitted[kind]
    rebuilt = quantizer.reconstruct(quantizer.codes_of(clustered()))
    assert rebuilt is not None and rebuilt.shape == (300, 12) and rebuilt.dtype == np.float32
    error = ((rebuilt - clustered()) ** 2).mean() / clustered().var(axis=0).mean()
    assert report["relative_error"] == pytest.approx(error, rel=1e-3)
    assert report["relative_error"] < 0.4 and min(report["used_codes"]) >= 10


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(WITH_GEOMETRY)))
def test_without_geometry_paths_are_distinct_already(kind: str, fitted: dict) -> None:
    quantizer, report = fitted[kind]
    assert report["collision_rate"] == 0 and report["relative_error"] is None
    assert quantizer.reconstruct(quantizer.codes_of(None)) is None
    assert len(np.unique(quantizer.codes_of(None), axis=0)) == 300


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "embeddings",
    [
        clustered(1),
        clustered(2),
        clustered(12),
        np.full((30, 4), 7.0, dtype=np.float32),
        np.repeat(clustered(3), 10, axis=0),
        np.zeros((5, 1), dtype=np.float32),
        clustered(40, 2),
        clustered(40) * 1e-6,
        clustered(40) * 1e6,
    ],
    ids=["one", "two", "few", "constant", "duplicates", "zero", "fewer dimensions than levels", "tiny", "huge"],
)
def test_degenerate_catalogues(kind: str, embeddings: np.ndarray) -> None:
    if quantizer_class(kind).needs_collaborative and len(embeddings) == 1:
        pytest.skip("there is nothing to align a single item with, which is refused")
    quantizer, report = fit(kind, embeddings, codebook_size=64, rqvae_epochs=4)
    codes = quantizer.codes_of(embeddings)
    assert codes.shape == (len(embeddings), 3) and codes.min() >= 0 and codes.max() < 64
    for level in range(3):
        assert np.isfinite(quantizer.costs_of(embeddings)(np.arange(len(codes)), codes[:, :level])).all()
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("kind", WITH_GEOMETRY)
def test_equal_items_have_equal_codes(kind: str, fitted: dict) -> None:
    embeddings = clustered()
    embeddings[7] = embeddings[3]
    codes = fitted[kind][0].codes_of(embeddings)
    np.testing.assert_array_equal(codes[3], codes[7])


@pytest.mark.parametrize("kind", WITH_GEOMETRY)
def test_a_small_catalogue_shares_codes_on_the_first_levels(kind: str) -> None:
    quantizer, _ = fit(kind, clustered(60), codebook_size=64)
    assert max(len(np.unique(level)) for level in quantizer.codes_of(clustered(60)).T[:2]) <= 15


@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_different_sizes(kind: str) -> None:
    codes = fit(kind, clustered(), codebook_size=[4, 20, 32])[0].codes_of(clustered())
    assert (codes < [4, 20, 32]).all()


def test_what_is_missing_or_broken_is_said() -> None:
    for kind in WITH_GEOMETRY:
        with pytest.raises(UserError, match=f"quantizer={kind}: it needs embeddings"):
            fit_quantizer(Inputs(5), small_settings(quantizer=kind), seed=1)
    with pytest.raises(UserError, match="quantizer=cid.*training interactions"):
        fit_quantizer(Inputs(5, clustered(5)), small_settings(quantizer="cid"), seed=1)
    embeddings = clustered()
    embeddings[[3, 8], 0] = np.nan
    with pytest.raises(UserError, match=r"2 of 300 rows.*rows 3, 8"):
        Inputs(300, embeddings)


def test_random_paths_are_drawn_from_all() -> None:
    everything = fit("random", clustered(64), codebook_size=4)[0].codes_of(None)
    assert len(np.unique(everything, axis=0)) == 64
    assert not np.array_equal(everything, fit("random", clustered(64), codebook_size=4, seed=2)[0].codes_of(None))
    many, _ = fit_quantizer(Inputs(50_000), small_settings(quantizer="random", codebook_size=64, num_levels=4), seed=3)
    codes = many.codes_of(None)
    assert len(np.unique(codes, axis=0)) == 50_000
    counts = np.stack([np.bincount(level, minlength=64) for level in codes.T])
    assert counts.min() > 600 and counts.max() < 970


def test_residual_levels_refine_and_product_levels_do_not_depend_on_the_prefix(fitted: dict) -> None:
    rkmeans, opq = fitted["rkmeans"][0], fitted["opq"][0]
    codes = rkmeans.codes_of(clustered())
    errors = []
    for levels in range(4):
        points = rkmeans.projection.apply(clustered())
        for level in range(levels):
            points = points - rkmeans.codebooks[level][codes[:, level]]
        errors.append(float((points**2).mean()))
    assert errors[0] > 2 * errors[1] > 2 * errors[2] > 2 * errors[3]
    rows, costs = np.arange(300), opq.costs_of(clustered())
    any_prefix = np.random.default_rng(0).integers(16, size=(300, 1))
    np.testing.assert_array_equal(costs(rows, any_prefix), costs(rows, opq.codes_of(clustered())[:, :1]))


def test_the_rotation_is_orthogonal_and_better_than_none(fitted: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_lcrec.quantizer import opq

    rng = np.random.default_rng(0)
    mixed = (clustered(500, 12, seed=3) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]).astype(np.float32)
    rotated, report = fit("opq", mixed, latent_dim=12)
    matrix = rotated.rotation
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(12), atol=1e-5)
    monkeypatch.setattr(opq, "ROUNDS", 0)
    plain, before = fit("opq", mixed, latent_dim=12)
    assert set(np.unique(plain.rotation)) == {0.0, 1.0}
    assert report["relative_error"] < before["relative_error"]


def test_components_are_dealt_evenly() -> None:
    from recbole_lcrec.quantizer.opq import _balanced

    variances = np.array([64.0, 32, 16, 8, 4, 2])
    rotation, widths = _balanced(variances, 6, 3)
    assert widths == [2, 2, 2]
    order = rotation.argmax(axis=0)
    assert [sorted(variances[order[2 * part : 2 * part + 2]]) for part in range(3)] == [[2, 64], [4, 32], [8, 16]]
