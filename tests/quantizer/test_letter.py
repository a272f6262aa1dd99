"""LETTER: its two losses against the formulas, the groups of codes, and what alignment does to codes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from quantizer_helpers import clustered, small_settings

from recbole_lcrec.experiment import build, evaluate, run
from recbole_lcrec.quantizer import Inputs, fit_quantizer
from recbole_lcrec.quantizer.letter import _partners, alignment_loss, diversity_loss, equal_groups, fitted_targets
from recbole_lcrec.utils.errors import UserError


def test_the_losses_are_the_formulas() -> None:
    rng = torch.Generator().manual_seed(0)
    z, h, book = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((5, 3), (5, 3), (7, 3)))
    expected = 0.0
    for i in range(5):
        products = [math.exp(float(z[i] @ h[j])) for j in range(5)]
        expected -= math.log(products[i] / sum(products)) / 5
    assert float(alignment_loss(z, h)) == pytest.approx(expected)
    chosen, partners = torch.tensor([0, 3, 3, 6]), torch.tensor([2, 4, 3, 1])
    expected, counted = 0.0, [(0, 2), (3, 4), (6, 1)]  # the third has no partner
    for code, partner in counted:
        products = {j: math.exp(float(book[code] @ book[j])) for j in range(7) if j != code}
        expected -= math.log(products[partner] / sum(products.values())) / 3
    assert float(diversity_loss(book, chosen, partners)) == pytest.approx(expected)
    assert float(diversity_loss(book, chosen, chosen)) == 0


def test_groups_are_of_equal_size_and_near_each_other() -> None:
    book = np.repeat(np.eye(4, dtype=np.float32) * 9, 5, axis=0) + np.random.default_rng(0).normal(size=(20, 4)) * 0.1
    groups = equal_groups(book.astype(np.float32), 4, np.random.default_rng(1))
    assert np.bincount(groups).tolist() == [5] * 4
    assert all(len(set(groups[i : i + 5])) == 1 for i in range(0, 20, 5)), "well apart, they are the clusters"
    chosen = np.arange(20).repeat(30)
    partners = _partners(chosen, groups, np.random.default_rng(2))
    assert (groups[partners] == groups[chosen]).all() and (partners != chosen).all()
    assert all(len(set(partners[chosen == code])) == 4 for code in range(20)), "any other code of the group"
    assert _partners(np.array([1]), np.array([0, 1, 0]), np.random.default_rng(0)).tolist() == [1]


def test_targets_keep_inner_products_and_unknown_rows() -> None:
    given = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) + 3
    given[7] = np.nan
    targets = fitted_targets(given, 8)
    known = np.arange(40) != 7
    centred = given[known] - given[known].mean(axis=0)
    products = centred @ centred.T
    found = targets[known] @ targets[known].T
    np.testing.assert_allclose(found / found.trace(), products / products.trace(), atol=1e-5)
    assert np.isnan(targets[7]).all() and (targets[known][:, 6:] == 0).all()
    assert (targets[known] ** 2).sum(axis=1).mean() == pytest.approx(8, rel=1e-4)


def test_aligned_codes_follow_the_recommender() -> None:
    """Items whose text says little of who likes them share codes with those that the same users like."""
    texts, users = clustered(300, seed=1), np.arange(300) % 5
    liked = (np.eye(5)[users] * 4 + np.random.default_rng(2).normal(size=(300, 5)) * 0.1).astype(np.float32)
    texts = np.concatenate([texts, np.eye(5, dtype=np.float32)[users] * 0.3], axis=1)

    def together(weight: float) -> float:
        own = {"letter_alignment": weight, "letter_diversity": 1e-4, "letter_clusters": 4}
        settings = small_settings(quantizer="letter", own=own, rqvae_epochs=40, rqvae_patience=40)
        codes = fit_quantizer(Inputs(300, texts, None, liked), settings, seed=1)[0].codes_of(texts)
        same = (codes[:, None, :2] == codes[None, :, :2]).all(axis=-1)
        np.fill_diagonal(same, False)
        return float((users[:, None] == users[None])[same].mean())

    assert together(0.3) > together(0.0) + 0.5


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    small = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "epochs": 1}
    t5 = {"t5_d_model": 16, "t5_layers": 1, "t5_heads": 2, "t5_head_dim": 8, "t5_d_ff": 16, "train_samples": 32}
    places = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    return {**TINY, **small, **t5, **places, "collaborative_from": str(tmp_path / "sasrec"), "quantizer": "letter"}


def test_a_run_takes_the_embeddings_of_another_of_the_same_split(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="collaborative_from=.*not the folder of a finished run"):
        build("TIGER", "toy", options)
    with pytest.raises(UserError, match="quantizer=letter: it aligns codes"):
        build("TIGER", "toy", {**options, "collaborative_from": None})
    other = run("SASRec", "toy", {**options, "output_dir": str(tmp_path / "sasrec")})
    result = run("TIGER", "toy", {**options, "output_dir": str(tmp_path / "out")})
    assert result["index"]["quantizer"] == "letter" and result["index"]["aligned_items"] == 30
    assert result["items_sha256"] == other["items_sha256"]
    record = json.loads((tmp_path / "sasrec" / "result.json").read_text())
    for name, told in (("split_sha256", "another split"), ("items_sha256", "other items")):
        (tmp_path / "sasrec" / "result.json").write_text(json.dumps({**record, name: "0" * 64}))
        with pytest.raises(UserError, match=told):
            build("TIGER", "toy", options)
    (tmp_path / "sasrec" / "result.json").write_text(json.dumps(record))
    weights = tmp_path / "sasrec" / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(UserError, match="checkpoint is damaged"):
        build("TIGER", "toy", options)
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"], "it has its own index"
