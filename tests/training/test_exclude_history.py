"""Items of a user's history kept out of every list: the same items for all models, while the beams grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import TINY, write_dataset

from recbole_lcrec.comparison.results import metric_of_ranks, read_ranks
from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.evaluation.collecting import best_items
from recbole_lcrec.evaluation.ranks import RankCollector
from recbole_lcrec.experiment import build, evaluate, run
from recbole_lcrec.utils.errors import UserError

T5 = {"t5_d_model": 16, "t5_layers": 1, "t5_heads": 2, "t5_head_dim": 8, "t5_d_ff": 32, "train_samples": 64}
LISTS = ["Hit", "NDCG", "MRR", "Recall", "Precision", "MAP", "ItemCoverage", "GiniIndex", "AveragePopularity"]


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache"), "epochs": 1}
    return {**TINY, **data, "output_dir": str(folder / "out"), "exclude_history": True, **changes}


def interactions(folder: Path) -> dict[str, list[str]]:
    """Return each user's items in order of time, read from the file."""
    rows = [line.split("\t") for line in (folder / "toy" / "toy.inter").read_text().splitlines()[1:]]
    return {user: [item for u, item, _ in rows if u == user] for user, _, _ in rows}


def check_lists(table: pd.DataFrame, of_user: dict[str, list[str]], n_items: int | None) -> None:
    """Hold each row against the user's interactions before the test."""
    tops = table[[name for name in table if name.startswith("top_")]].to_numpy()
    for top, row in zip(tops, table.itertuples(), strict=True):
        seen = set(of_user[row.user][:-1])
        shown = [item for item in top if item]
        assert not seen & set(shown) and len(set(shown)) == len(shown)
        if n_items is not None:
            assert row.candidates == n_items - len(seen)
            assert len(shown) == min(len(top), row.candidates)
        if row.item in seen:
            assert row.rank == max(row.candidates, len(top)) + 1 and row.censored == 0
        elif row.rank <= len(top):
            assert top[row.rank - 1] == row.item
        else:
            assert row.item not in shown


@pytest.mark.parametrize("model", ["ExactPop", "BPR", "SASRec", "SASRecText", "LCRec", "TIGER", "RPG"])
def test_no_model_recommends_what_the_user_had(tmp_path: Path, model: str) -> None:
    # short histories in the prompt: what is excluded is the whole history all the same
    changes = {"MAX_ITEM_LIST_LENGTH": 3, "num_beams": 15, "metrics": LISTS, **(T5 if model == "TIGER" else {})}
    result = run(model, "toy", options(tmp_path, **changes))
    of_user, table = interactions(tmp_path), read_ranks(tmp_path / "out" / "ranks.csv.gz")
    check_lists(table, of_user, 30)
    repeated = sum(items[-1] in items[:-1] for items in of_user.values())
    assert result["exclude_history"]["test"] == {"excluded_targets": repeated, "targets": 40} and repeated == 3
    for name, expected in result["test_result"].items():
        values = metric_of_ranks(table, name)
        if values is not None:
            assert values.mean() == pytest.approx(expected, abs=5.1e-5), name
    assert "3 of 40 test targets are in their user's history" in (tmp_path / "out" / "run.log").read_text()
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    other = evaluate(tmp_path / "out", {"exclude_history": False})
    assert other["test_result"] != result["test_result"] and "exclude_history" not in other


@pytest.mark.parametrize("model", ["ExactPop", "SASRec"])
@pytest.mark.parametrize("ready", [False, True])
def test_the_excluded_items_are_those_before_the_phase(tmp_path: Path, model: str, ready: bool) -> None:
    given = options(tmp_path, MAX_ITEM_LIST_LENGTH=2, valid_users=10)
    of_user = interactions(tmp_path)
    if ready:
        parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
        for user, items in of_user.items():
            for end in range(1, len(items)):
                part = {len(items) - 1: "test", len(items) - 2: "valid"}.get(end, "train")
                parts[part].append(f"{user}\t{items[end]}\t{' '.join(items[:end])}")
        for part, lines in parts.items():
            text = "\n".join(["user_id:token\titem_id:token\titem_id_list:token_seq", *lines]) + "\n"
            (tmp_path / "toy" / f"toy.{part}.inter").write_text(text)
        given |= {"benchmark_filename": list(parts), "user_inter_num_interval": None, "item_inter_num_interval": None}
    made = build(model, "toy", given)
    users, items = (made.dataset.field2token_id[name] for name in ("user_id", "item_id"))
    for loader, held_out in ((made.valid_data, 2), (made.test_data, 1)):
        for user, line in of_user.items():
            expected = sorted({items[item] for item in line[:-held_out]})
            assert loader.seen.of_user(users[user]).tolist() == expected
    assert build(model, "toy", {**given, "exclude_history": False}).test_data.seen is None


@pytest.mark.parametrize("model", ["SASRec", "BPR", "LCRec", "TALLRec"])
def test_candidates_of_the_history_stand_last(tmp_path: Path, model: str) -> None:
    given = options(tmp_path, eval_args={"mode": "uni12"}, topk=[5, 10], task_samples=32)
    result = run(model, "toy", given)
    of_user, table = interactions(tmp_path), read_ranks(tmp_path / "out" / "ranks.csv.gz")
    check_lists(table, of_user, None)
    tops = table[[f"top_{place + 1}" for place in range(10)]].to_numpy()
    assert ((tops != "").sum(axis=1) == table["candidates"].clip(upper=10)).all() and table["candidates"].min() < 10
    for name, expected in result["test_result"].items():
        values = metric_of_ranks(table, name)
        assert values is not None and values.mean() == pytest.approx(expected, abs=5.1e-5), name


def test_beams_are_what_filtering_the_whole_catalogue_gives(tmp_path: Path) -> None:
    made = build("LCRec", "toy", options(tmp_path, num_beams=30))
    made.model.lm.double()
    made.model.eval()
    batch = next(iter(made.test_data))[0][:12]
    with torch.no_grad():
        everything = made.model.full_sort_top(batch)
        allowed = made.model.full_sort_top(batch, made.test_data.seen)
        dense = allowed.dense(made.dataset.item_num)
    for row, user in enumerate(batch["user_id"].tolist()):
        seen = set(made.test_data.seen.of_user(user).tolist())
        expected = [item for item in everything.items[row].tolist() if item not in seen]
        assert allowed.items[row].tolist() == expected + [0] * len(seen)
        assert dense[row].topk(len(expected)).indices.tolist() == expected
        assert (dense[row, sorted(seen)] < dense[row, expected].min()).all()


@pytest.mark.parametrize("changes", [{"eval_prompts": "ensemble"}, {"eval_task": "itemsearch"}])
def test_every_way_of_asking_excludes(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = build("LCRec", "toy", options(tmp_path, num_beams=28, topk=[28], valid_metric="NDCG@28", **changes))
    made.evaluate("test")
    assert made.ranks is not None
    for user, top in zip(made.ranks.users, made.ranks.top, strict=True):
        seen = made.test_data.seen.of_user(user)
        assert not np.isin(top, seen).any() and (top > 0).sum() == min(28, 30 - len(seen))


def test_validation_while_training_excludes_too(tmp_path: Path) -> None:
    made = build("ExactPop", "toy", options(tmp_path))
    best = made.fit()
    assert best == made.evaluate("valid")
    made.valid_data.seen = None
    assert made.evaluate("valid") != best


def test_recbole_s_own_masking_does_not_get_in_the_way(tmp_path: Path) -> None:
    result = run("BPR", "toy", options(tmp_path))
    again = evaluate(tmp_path / "out", {"repeatable": False})
    assert again["test_result"] == result["test_result"]
    assert again["best_valid_result"] == result["best_valid_result"]


@pytest.mark.parametrize("model", ["SASRec", "LCRec"])
def test_recommend_leaves_out_the_history_it_is_given(tmp_path: Path, model: str) -> None:
    given = options(tmp_path, MAX_ITEM_LIST_LENGTH=2)
    made = build(model, "toy", given)
    long, short = [f"i{n}" for n in range(25)], ["i29"]
    items, scores = made.recommend([long, short], k=10)
    assert sorted(items[0]) == [f"i{n}" for n in range(25, 30)] and len(scores[0]) == 5
    assert len(items[1]) == 10 and "i29" not in items[1]
    plain, _ = build(model, "toy", {**given, "exclude_history": False}).recommend([short], k=30)
    assert made.recommend([short], k=30)[0][0] == [item for item in plain[0] if item != "i29"]
    assert made.recommend([["i3", "i4"]], k=5, among=["i3", "i5", "i4"])[0] == [["i5"]]
    assert made.recommend([["i3"], ["i4"]], k=5, among=["i3"])[0] == [[], ["i3"]]


def test_a_ranker_of_candidates_leaves_out_the_history(tmp_path: Path) -> None:
    made = build("TALLRec", "toy", options(tmp_path, eval_args={"mode": "uni20"}, task_samples=32))
    items, _ = made.recommend([["i1", "i2"], ["i9"]], k=3, among=["i1", "i2", "i3"])
    assert items[0] == ["i3"] and sorted(items[1]) == ["i1", "i2", "i3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["GAUC"], "valid_metric": "GAUC"}, "metrics has GAUC"),
        ({"eval_args": {"mode": "labeled"}}, "mode in eval_args is labeled"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("BPR", "toy", options(tmp_path, **changes))


def test_seen_items_by_hand() -> None:
    seen = SeenItems(np.array([2, 1, 2, 2, 3]), np.array([4, 4, 1, 4, 0]), 5)
    assert [seen.of_user(user).tolist() for user in range(4)] == [[], [4], [1, 4], []]
    users = torch.tensor([3, 2, 1, 2])
    rows, items = seen.of_users(users)
    assert rows.tolist() == [1, 1, 2, 3, 3] and items.tolist() == [1, 4, 4, 1, 4]
    assert seen.counts(users).tolist() == [0, 2, 1, 2]
    assert seen.contains(users, torch.tensor([4, 4, 1, 1])).tolist() == [False, True, False, True]


def test_empty_places_are_no_hits_and_excluded_targets_come_last() -> None:
    scores = torch.tensor([[-torch.inf, 3, -torch.inf, 1], [-torch.inf, -torch.inf, 2, -torch.inf]])
    top = best_items(scores, 3)
    assert top.items.tolist() == [[1, 3, 0], [2, 0, 0]]
    rows, targets, users = torch.tensor([0, 1]), torch.tensor([3, 3]), torch.tensor([1, 2])
    dense, generated = RankCollector(3), RankCollector(3)
    dense.add(users, scores, rows, targets)
    seen = SeenItems(np.array([1, 2, 2]), np.array([2, 1, 3]), 4)
    generated.add_top(users, top.items, rows, targets, 3, seen)
    for found in (dense.collected(), generated.collected()):
        assert found is not None and found.ranks.tolist() == [2, 4] and found.candidates.tolist() == [2, 1]
        assert not found.censored.any() and found.top.tolist() == [[1, 3, 0], [2, 0, 0]]
