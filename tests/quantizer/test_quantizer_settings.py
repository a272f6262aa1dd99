from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from quantizer_helpers import small_settings

from recbole_lcrec.config import properties_dir
from recbole_lcrec.embedding import EmbeddingSettings
from recbole_lcrec.index import IndexSettings
from recbole_lcrec.quantizer import QuantizerSettings
from recbole_lcrec.utils.errors import UserError


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_levels", 1),
        ("num_levels", 33),
        ("codebook_size", 0),
        ("codebook_size", [16, 16]),
        ("codebook_size", [16, 16, 0]),
        ("codebook_size", "many"),
        ("latent_dim", 0),
        ("rqvae_layers", [0]),
        ("rqvae_layers", "512"),
        ("rqvae_beta", -0.1),
        ("rqvae_loss_weight", float("nan")),
        ("rqvae_learning_rate", 0.0),
        ("rqvae_epochs", 0),
        ("sinkhorn_epsilon", 1e-5),
        ("sinkhorn_iterations", -1),
        ("quantizer", "pq"),
        ("rqvae_codebook", "cosine"),
        ("rqvae_precision", "float16"),
        ("cid_clusters", 1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=option):
        small_settings(**{option: value})


def test_level_sizes() -> None:
    assert small_settings().level_sizes == (16, 16, 16)
    assert small_settings(codebook_size=[4, 8, 16]).level_sizes == (4, 8, 16)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UserError, match="unknown quantizer rkmean. Did you mean 'rkmeans'"):
        small_settings(quantizer="rkmean")


@pytest.mark.parametrize("cls", [QuantizerSettings, IndexSettings, EmbeddingSettings])
def test_defaults_in_python_are_those_of_the_yaml(cls: type) -> None:
    files = (properties_dir() / f"{name}.yaml" for name in ("embedding", "index"))
    options = {name: value for path in files for name, value in yaml.safe_load(path.read_text()).items()}
    for field in dataclasses.fields(cls):
        if field.name == "own":  # of plugins
            continue
        assert field.name in options
        if field.default is not dataclasses.MISSING:
            assert options[field.name] == field.default, field.name
