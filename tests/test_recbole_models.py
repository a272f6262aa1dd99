"""RecBole's models that differ from the common course: pre-training, values in place of rankings, graphs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, write_dataset

from recbole_lcrec.errors import UserError
from recbole_lcrec.experiment import evaluate, run


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache")}
    return {**TINY, **data, "output_dir": str(folder / "out"), "epochs": 1, **changes}


def write_graph(folder: Path) -> None:
    """Write a knowledge graph in which every item has a colour, as RecBole's .kg and .link files."""
    lines = ["head_id:token\trelation_id:token\ttail_id:token"]
    lines += [f"e{n}\thas_colour\tcolour{n % 5}" for n in range(30)]
    (folder / "toy" / "toy.kg").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tentity_id:token"] + [f"i{n}\te{n}" for n in range(30)]
    (folder / "toy" / "toy.link").write_text("\n".join(lines) + "\n")


def test_s3rec_is_pretrained_then_tuned(tmp_path: Path) -> None:
    given = options(
        tmp_path, pretrain_epochs=2, save_step=1, item_attribute="title",
        load_col={"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]},
    )  # fmt: skip
    first = run("S3Rec", "toy", given)
    weights = tmp_path / "out" / "S3Rec-toy-2.pth"
    assert first["best_valid_result"] is None and torch.load(weights, weights_only=True)["epoch"] == 1
    tuned = {**given, "train_stage": "finetune", "pre_model_path": str(weights), "output_dir": str(tmp_path / "tuned")}
    result = run("S3Rec", "toy", tuned)
    assert evaluate(tmp_path / "tuned")["test_result"] == result["test_result"]
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be loaded"):
        run("S3Rec", "toy", {**tuned, "output_dir": str(tmp_path / "again")})
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("model", ["CFKG", "LightGCN", "RecVAE"])
def test_graph_and_two_optimizer_models(tmp_path: Path, model: str) -> None:
    given = options(tmp_path, lr_scheduler="cosine")
    write_graph(tmp_path)
    result = run(model, "toy", given)
    assert result["best_valid_result"] and evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_a_model_with_value_metrics(tmp_path: Path) -> None:
    lines = ["user_id:token\titem_id:token\ttimestamp:float\tlabel:float"]
    lines += [f"u{u}\ti{(u * 7 + t) % 30}\t{t}\t{(u + t) % 2}" for u in range(40) for t in range(8)]
    given = options(
        tmp_path, metrics=["AUC", "LogLoss"], valid_metric="AUC", LABEL_FIELD="label",
        eval_args={"mode": "labeled"}, load_col={"inter": ["user_id", "item_id", "timestamp", "label"]},
    )  # fmt: skip
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    result = run("DIN", "toy", given)
    assert 0 <= result["test_result"]["auc"] <= 1
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_a_package_that_a_model_needs_is_named(tmp_path: Path) -> None:
    given = options(tmp_path)
    write_graph(tmp_path)
    with pytest.raises(UserError, match="'dgl', which is not installed"):
        run("KGAT", "toy", given)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("faiss") is not None, reason="faiss is installed")
def test_a_package_that_a_model_asks_for_in_training_is_named_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="'faiss', which is not installed"):
        run("NCL", "toy", options(tmp_path, m_step=1, lr_scheduler="cosine"))
    assert "NCLTrainer has a loop of its own and ignores lr_scheduler" in caplog.text


@pytest.mark.parametrize("model", ["BPR", "LCRec"])
def test_sampled_candidates_are_the_same_when_evaluated_again(tmp_path: Path, model: str) -> None:
    result = run(model, "toy", options(tmp_path, eval_args={"mode": "uni20"}, topk=[5], valid_metric="NDCG@5"))
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_result"]["hit@5"] > 0
