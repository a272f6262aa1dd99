"""Metrics beyond RecBole's default ones: all of them for every kind of model, and novelty by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.comparison.results import metric_of_ranks, read_ranks
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.evaluation.ranks import item_counts
from recbole_lcrec.experiment import build, run
from recbole_lcrec.utils.errors import UserError

METRICS = ["Hit", "NDCG", "MRR", "Recall", "ItemCoverage", "GiniIndex", "AveragePopularity", "novelty"]
T5 = {"t5_d_model": 16, "t5_layers": 1, "t5_heads": 2, "t5_head_dim": 8, "t5_d_ff": 32, "train_samples": 64}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache"), "epochs": 1}
    given = {**TINY, **data, "output_dir": str(folder / "out"), "metrics": METRICS, "topk": [1, 5, 20]}
    return {**given, "valid_metric": "NDCG@20", **changes}


@pytest.mark.parametrize("model", ["ExactPop", "BPR", "SASRec", "LCRec", "TIGER", "P5CID"])
def test_every_metric_up_to_the_number_of_beams(tmp_path: Path, model: str) -> None:
    tiny = {**T5, "cid_clusters": 4} if model in ("TIGER", "P5CID") else {}
    result = run(model, "toy", options(tmp_path, num_beams=20, **tiny))
    names = {f"{metric.lower()}@{k}" for metric in METRICS for k in (1, 5, 20)}
    assert set(result["test_result"]) == set(result["best_valid_result"]) == names
    table = read_ranks(tmp_path / "out" / "ranks.csv.gz")
    test = result["test_result"]
    for name, value in test.items():
        values = metric_of_ranks(table, name)
        assert values is None or values.mean() == pytest.approx(value, abs=5.1e-5), name
    beyond = result["beyond_accuracy"]
    assert test["novelty@20"] == pytest.approx(beyond["novelty@20"], abs=5.1e-5)
    assert test["averagepopularity@20"] == pytest.approx(beyond["popularity@20"], abs=5.1e-5)
    assert test["recall@20"] == test["hit@20"] > 0


def test_novelty_by_hand(tmp_path: Path) -> None:
    made = build(
        "SASRec", "toy", options(tmp_path, metrics=["Novelty", "NDCG"], topk=[2, 35], valid_metric="Novelty@2")
    )
    result = made.evaluate("test")
    assert result is not None and made.ranks is not None
    counts = item_counts(made.train_data._dataset)
    bits = -np.log2(np.maximum(counts, 1) / counts.sum())
    assert result["novelty@2"] == pytest.approx(bits[made.ranks.top[:, :2]].mean(), abs=5.1e-5)
    # the catalogue has 30 items: five places of the longer list stay empty and do not count
    assert result["novelty@35"] == pytest.approx(bits[1:].mean(), abs=5.1e-5)


def test_lists_longer_than_the_beams_are_refused() -> None:
    for model in ("LCRec", "TIGER", "P5CID"):
        with pytest.raises(UserError, match=r"num_beams is 20, less than the longest list in topk \(50\)"):
            LCRecConfig(model, "ml-100k", config_dict={"topk": [10, 50]})
    assert LCRecConfig("SASRec", "ml-100k", config_dict={"topk": [10, 50]})["topk"] == [10, 50]


def test_a_wrong_metric_names_those_there_are() -> None:
    with pytest.raises(UserError, match="unknown metric Noveltie. Did you mean 'novelty'"):
        LCRecConfig("SASRec", "ml-100k", config_dict={"metrics": ["NDCG", "Noveltie"]})
