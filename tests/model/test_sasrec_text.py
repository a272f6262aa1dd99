"""SASRec with texts: its vectors, what it is without them, and a run that keeps what it has read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from single_thread import one_thread  # noqa: F401
from torch.nn import functional

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.experiment import build, evaluate, load_experiment, run
from recbole_lcrec.model.sasrec_text import standardised
from recbole_lcrec.utils.errors import UserError

SMALL: dict[str, Any] = {**TINY, "hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    if not (folder / "toy").is_dir():
        write_dataset(folder)
    places = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    return {**SMALL, **places, **changes}


def test_features_are_centred_and_of_mean_length_1() -> None:
    vectors = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 30 + 5
    vectors[0] = 0
    scaled = standardised(vectors)
    assert scaled[0].eq(0).all() and scaled[1:].mean(dim=0).abs().max() < 1e-6
    assert float(scaled[1:].square().sum(dim=1).mean()) == pytest.approx(1)
    assert standardised(torch.ones(4, 3)).eq(0).all(), "texts that are all the same say nothing"


def test_without_the_projection_it_is_sasrec(tmp_path: Path) -> None:
    model, plain = (build(name, "toy", options(tmp_path)).model.eval() for name in ("SASRecText", "SASRec"))
    with torch.no_grad():
        ids = model.item_embedding.ids.weight
        plain.load_state_dict(
            {**{n: v for n, v in model.state_dict().items() if n in plain.state_dict()}, "item_embedding.weight": ids}
        )
        batch = next(iter(build("SASRec", "toy", options(tmp_path)).train_data))
        items = torch.arange(model.n_items)
        torch.testing.assert_close(model.item_embedding(items), model.item_embedding.weight)
        scores = model.full_sort_predict(batch)
        assert not torch.allclose(scores, plain.full_sort_predict(batch))
        expected = functional.cross_entropy(scores, batch["item_id"])
        torch.testing.assert_close(model.calculate_loss(batch), expected)
        model.item_embedding.projection.weight.zero_()
        torch.testing.assert_close(model.full_sort_predict(batch), plain.full_sort_predict(batch))


def test_a_run_keeps_what_it_has_read(tmp_path: Path) -> None:
    given = options(tmp_path)
    result = run("SASRecText", "toy", given)
    out = tmp_path / "out"
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "toy" / "toy.item").write_text("item_id:token\ttitle:token_seq\ni0\tother words\n")
    assert evaluate(out)["test_result"] == result["test_result"]
    assert (
        run("SASRec", "toy", {**given, "output_dir": str(tmp_path / "plain")})["split_sha256"]
        == (result["split_sha256"])
    )
    items, scores = load_experiment(out).recommend([["i3", "i4"]], 5)
    assert len(items[0]) == 5 and scores[0] == sorted(scores[0], reverse=True)
    (out / "embeddings.safetensors").unlink()
    with pytest.raises(UserError, match="embeddings.safetensors"):
        evaluate(out)


def test_it_reads_the_vectors_of_an_index_and_has_the_options_of_sasrec(tmp_path: Path) -> None:
    read = build("SASRecText", "toy", options(tmp_path)).dataset.item_vectors
    index = build("TIGER", "toy", options(tmp_path, t5_d_model=8, t5_layers=1, train_samples=8)).dataset.catalogue
    assert np.array_equal(read[1:], index.embeddings[index.row_of_id[1:]])
    configs = [LCRecConfig(name, "toy", config_dict=options(tmp_path)) for name in ("SASRecText", "SASRec")]
    known = configs[1].internal_config_dict
    assert {name: configs[0].internal_config_dict[name] for name in known} == known
    assert configs[0]["text_encoder"] == "lsa" and configs[0]["quantizer"] is None
    with pytest.raises(UserError, match="text_encoder=lsaa: no such encoder"):
        build("SASRecText", "toy", options(tmp_path, text_encoder="lsaa"))
