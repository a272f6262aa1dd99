"""Ranks of targets: what a rank is, and that RecBole's metrics follow from them for every kind of model."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset

from recbole_lcrec.comparison.results import metric_of_ranks, read_ranks
from recbole_lcrec.evaluation.ranks import RankCollector, Ranks, beyond_accuracy, item_counts
from recbole_lcrec.experiment import build, run

METRICS = ["Hit", "NDCG", "MRR", "Recall", "ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy"]


def options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    common = {"output_dir": str(tmp_path / "out"), "metrics": [*METRICS, "TailPercentage"], "epochs": 1}
    return {**TINY, **data, **common, **changes}


@pytest.mark.parametrize(
    ("model", "mode"),
    [("ExactPop", "full"), ("Pop", "uni20"), ("SASRec", "full"), ("SASRec", "uni20"), ("LCRec", "full"),
     ("LCRec", "pop20")],
)  # fmt: skip
def test_metrics_follow_from_the_ranks(tmp_path: Path, model: str, mode: str) -> None:
    result = run(model, "toy", options(tmp_path, eval_args={"mode": mode}, num_beams=12))
    table = read_ranks(tmp_path / "out" / "ranks.csv.gz")
    assert len(table) == result["ranks"]["rows"] == 40 and result["ranks"]["among"] == mode
    for name, expected in result["test_result"].items():
        values = metric_of_ranks(table, name)
        if values is not None:
            assert values.mean() == pytest.approx(expected, abs=5.1e-5), name
    items = 30
    assert result["beyond_accuracy"]["coverage@10"] * items / (items + 1) == pytest.approx(
        result["test_result"]["itemcoverage@10"], abs=5.1e-5
    )
    assert result["beyond_accuracy"]["popularity@10"] == pytest.approx(
        result["test_result"]["averagepopularity@10"], abs=5.1e-5
    )
    if mode == "full":
        assert set(table["candidates"]) == {items}
    else:
        assert table["candidates"].max() <= 21 and table["rank"].max() <= 21
    generative = model == "LCRec"
    assert set(table["wording"]) == ({"0"} if generative else {""})
    beyond = table[table["rank"] > 12] if generative and mode == "full" else table.iloc[:0]
    assert (beyond["censored"] == 1).all() and (beyond["rank"] == 13).all()
    assert table["censored"].sum() == result["ranks"]["censored"] == len(beyond)
    tops = table[[f"top_{place}" for place in range(1, 11)]].to_numpy()
    assert all(len(set(row)) == 10 and "" not in row for row in tops)


def test_facts_of_the_users_and_targets_are_the_same_for_every_model(tmp_path: Path) -> None:
    tables = []
    for model in ("ExactPop", "SASRec", "LCRec"):
        run(model, "toy", options(tmp_path))
        table = read_ranks(tmp_path / "out" / "ranks.csv.gz").sort_values("user", ignore_index=True)
        tables.append(table[["user", "item", "history", "popularity"]])
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
    rows = [line.split("\t") for line in (tmp_path / "toy" / "toy.inter").read_text().splitlines()[1:]]
    of_user = {user: [item for u, item, _ in rows if u == user] for user, _, _ in rows}
    train = [item for items in of_user.values() for item in items[:-2]]
    for user, item, history, popularity in tables[0].itertuples(index=False):
        assert item == of_user[user][-1] and history == len(of_user[user]) - 1 and popularity == train.count(item)


def test_several_wordings_have_rows_of_their_own(tmp_path: Path) -> None:
    result = run("LCRec", "toy", options(tmp_path, eval_prompts=[0, 2]))
    table = read_ranks(tmp_path / "out" / "ranks.csv.gz")
    assert table["wording"].value_counts().to_dict() == {"0": 40, "2": 40}
    assert metric_of_ranks(table, "hit@10").mean() == pytest.approx(  # type: ignore[union-attr]
        result["test_result"]["hit@10"], abs=5.1e-5
    )


def test_the_same_run_writes_the_same_bytes_and_what_it_took(tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        result = run("SASRec", "toy", options(tmp_path, epochs=3, eval_step=2))
        files.append((tmp_path / "out" / "ranks.csv.gz").read_bytes())
    assert files[0] == files[1] and gzip.decompress(files[0]).startswith(b"user,item,rank,censored,candidates,history")
    curve = result["learning_curve"]
    assert [point["epoch"] for point in curve] == [0, 1, 2] and ["valid" in point for point in curve] == [
        False,
        True,
        False,
    ]
    assert curve[1]["valid"] == result["best_valid_result"] and curve[0]["train_loss"] > 0
    assert 0 < curve[0]["seconds"] <= curve[1]["seconds"] <= curve[2]["seconds"] <= result["seconds"]["train"]
    assert result["memory"]["peak_mib"] > 50 and result["machine"]["cores"] >= 1


def test_ties_and_beams() -> None:
    scores = torch.tensor([[-torch.inf, 5, 4, 4, 4, 4, 1, 0], [-torch.inf, 0, 0, 9, 8, 7, 0, 0]])
    collector = RankCollector(2)
    rows, users = torch.tensor([0, 0, 1, 1]), torch.tensor([11, 12])
    targets = torch.tensor([1, 6, 3, 7])
    collector.add(users, scores, rows, targets)
    found = collector.collected()
    assert found is not None and found.users.tolist() == [11, 11, 12, 12] and found.targets.tolist() == [1, 6, 3, 7]
    # above: 0, 5, 0, 3; of the tied unscored items, three beside the target, half count
    assert found.ranks.tolist() == [1, 6, 1, 5] and not found.censored.any() and set(found.candidates) == {7}
    beams = RankCollector(2, num_beams=3)
    beams.add(users, scores, rows, targets)
    found = beams.collected()
    assert found is not None and found.censored.tolist() == [False, True, False, True]
    assert found.ranks.tolist() == [1, 6, 1, 4]
    assert RankCollector(2).collected() is None


def test_generated_items_alone_say_what_their_dense_scores_say() -> None:
    top = torch.tensor([[4, 2, 7, 1], [1, 3, 5, 6]])
    dense = torch.full((2, 9), -9.0).scatter_(1, top, torch.tensor([[4.0, 3, 2, 1]] * 2))
    dense[:, 0] = -torch.inf
    users, rows, targets = torch.tensor([5, 6]), torch.tensor([0, 1]), torch.tensor([7, 8])
    first, second = RankCollector(2, num_beams=4), RankCollector(2, num_beams=4)
    first.add(users, dense, rows, targets)
    second.add_top(users, top, rows, targets, 8)
    a, b = first.collected(), second.collected()
    assert a is not None and b is not None and a.ranks.tolist() == [3, 5] and a.censored.tolist() == [False, True]
    for name in ("users", "targets", "ranks", "censored", "candidates", "top"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name


def test_a_tied_target_stands_where_topk_put_it_or_beyond_the_list() -> None:
    scores = torch.zeros(1, 9)
    scores[:, 0] = -torch.inf
    listed = scores.topk(3).indices[0].tolist()
    for item in range(1, 9):
        collector = RankCollector(3)
        collector.add(torch.tensor([1]), scores, torch.tensor([0]), torch.tensor([item]))
        found = collector.collected()
        assert found is not None
        assert found.ranks[0] == (listed.index(item) + 1 if item in listed else 4)  # 1 + 7 // 2


def test_beyond_accuracy_by_hand() -> None:
    top = np.array([[1, 2], [1, 0]], np.int32)  # the last place stayed empty
    ranks = Ranks(*(np.zeros(2, np.int64) for _ in range(5)), top, ("", ""))  # type: ignore[arg-type]
    found = beyond_accuracy(ranks, np.array([0, 4, 0, 4]))
    # places of items 3, 2, 1: 0, 1, 2; shares 4/8 and, for the item without a count, 1/8
    assert found["coverage@2"] == pytest.approx(2 / 3, abs=1e-6) and found["popularity@2"] == pytest.approx(
        8 / 3, abs=1e-6
    )
    assert found["novelty@2"] == pytest.approx((1 + 1 + 3) / 3, abs=1e-6)
    assert found["gini@2"] == pytest.approx((-2 * 0 + 0 * 1 + 2 * 2) / (3 * 3), abs=1e-6)


def test_exact_popularity_counts_interactions(tmp_path: Path) -> None:
    made = build("ExactPop", "toy", options(tmp_path, train_batch_size=7))
    counts = item_counts(made.train_data._dataset)
    made.fit()
    assert made.model.item_cnt[:, 0].tolist() == counts.tolist()
    made.evaluate("test", load_best=True)
    assert made.ranks is not None
    best = np.sort(counts)[::-1][:10]
    assert all(counts[row].tolist() == best.tolist() for row in made.ranks.top)
