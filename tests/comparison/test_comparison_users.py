"""The users that a comparison shows: those about whom the models disagree most, on the data of the runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparison_helpers import model_result, ranks_table
from fakes import TINY, write_dataset

from recbole_lcrec.comparison.leaderboard import all_tests, make_board
from recbole_lcrec.comparison.plan import Plan, make_plan
from recbole_lcrec.comparison.repeats import ModelRepeats, repeats
from recbole_lcrec.comparison.report import report_page
from recbole_lcrec.comparison.results import ModelResult
from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.comparison.users import aligned, disagreement, load_test_data
from recbole_lcrec.experiment import build
from recbole_lcrec.utils.errors import UserError

LISTS = [["t0", "a"], ["a", "t1"], ["a", "b"], ["t3", "b"]]


def test_disagreement_by_hand() -> None:
    one = model_result("One", [{"ndcg@2": 0.5}], ranks_table([1, 2, 9, 1], LISTS))
    two = model_result("Two", [{"ndcg@2": 0.5}], ranks_table([2, 2, 50, 3], LISTS, censored=[0, 0, 1, 1]).iloc[::-1])
    tables = aligned([one, two])
    assert tables is not None and tables.seed == 1
    assert disagreement(tables).tolist() == [0.5, 0.0, 0.0, 1.0], "what is beyond the lists is alike"
    part = model_result("Search", [{"ndcg@2": 0.5}], ranks_table([1, 2, 9, 1], LISTS).iloc[[3, 1]])
    both = aligned([one, part])
    assert both is not None and [list(table["user"]) for table in both.ranks.values()] == [["u1", "u3"]] * 2
    assert aligned([model_result("Failed", [])]) is None


class Had:
    """Data that say what users had had before."""

    def __init__(self, **items: str) -> None:
        self.items = items

    def had(self, users: pd.Series, items: np.ndarray) -> np.ndarray:
        return np.array(
            [[item in self.items[user].split() for item in row] for user, row in zip(users, items, strict=True)]
        )


def test_repeats_by_hand() -> None:
    known = Had(u0="t0 a", u1="b", u2="x a", u3="t3 b")
    one = model_result("One", [{"hit@2": 0.5}], ranks_table([1, 2, 9, 1], LISTS))
    lists = [["b", "t0"], ["t1", ""], ["x", "a"], ["c", "d"]]
    two = model_result("Two", [{"hit@2": 0.5}], ranks_table([2, 1, 9, 9], lists))
    found = repeats(known, [one, model_result("Failed", []), two])  # type: ignore[arg-type]
    assert found is not None and (found.targets, found.repeated, found.length) == (4, 2, 2)
    assert found.models == (
        ModelRepeats("One", 0.75, 5 / 8, (1.0, 0.0), (1.0, 0.5), 1.0, 2 / 3),
        ModelRepeats("Two", 0.25, 3 / 7, (0.0, 0.5), (0.5, 0.5), 0.0, 0.5),
    )
    never = repeats(Had(u0="", u1="", u2="", u3=""), [one])  # type: ignore[arg-type]
    assert never is not None and never.repeated == 0 and never.models[0].hit_1 == (None, 0.5)
    assert repeats(known, [model_result("Failed", [])]) is None  # type: ignore[arg-type]


def runs_on(folder: Path) -> tuple[Plan, list[ModelResult], list[list[str]]]:
    """Return results as if two models had been tested on the toy data, and everyone's items."""
    given = {**TINY, "data_path": str(write_dataset(folder)), "topk": [1, 2], "valid_metric": "NDCG@2"}
    entries = (Entry("One", "Pop"), Entry("Two", "SASRec"))
    plan = make_plan("toy", entries, (1,), {**given, "output_dir": str(folder / "out")}, 1)
    people: dict[str, list[str]] = {}
    for line in (folder / "toy" / "toy.inter").read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        people.setdefault(user, []).append(item)
    table: dict[str, Any] = {
        "user": list(people), "item": [items[-1] for items in people.values()],
        "history": [len(items) - 1 for items in people.values()], "popularity": 3,
    }  # fmt: skip
    n = len(people)
    ranks = ([1] * n, [1 if row % 4 else 3 for row in range(n)])
    tops = [
        [[item, "i1"] if rank == 1 else ["i1", "i2"] for item, rank in zip(table["item"], one, strict=True)]
        for one in ranks
    ]
    results = [
        model_result(entry.label, [{"ndcg@2": 0.5}], ranks_table(rank, top, **table))
        for entry, rank, top in zip(entries, ranks, tops, strict=True)
    ]
    return plan, results, list(people.values())


def test_the_page_shows_the_users_and_what_they_had(tmp_path: Path) -> None:
    plan, results, people = runs_on(tmp_path)
    with pytest.raises(UserError, match="the data set is not the one that the runs were tested on"):
        load_test_data(plan, results)
    sha = build("SASRec", "toy", plan.runs[1].stages[0].options).split_sha256
    for result in results:
        result.runs[0].result["split_sha256"] = sha  # type: ignore[index]
    known = load_test_data(plan, results)
    names = [f"u{number}" for number in range(len(people))]
    asked = np.array([[items[-1], items[0], "", "nothing"] for items in people])
    again = [[items[-1] in items[:-1], True, False, False] for items in people]
    assert known is not None and known.had(pd.Series(names), asked).tolist() == again
    assert 0 < sum(row[0] for row in again) < len(people)
    board = make_board(results, "ndcg@2")
    page = report_page(plan, board, all_tests(board), 1, known)
    shown = page.split('<details class="user"')[1:]
    assert len(shown) == 40 and "and 10 about whom the models disagree most" in page
    assert [part.count('data-kinds="apart drawn"') for part in shown] == [1] * 10 + [0] * 30
    assert "found by" in shown[0] and "disagreement 1.00" in shown[0] and "disagreement 0.00" in shown[-1]
    first = re.search(r"<summary><b>u(\d+)</b>", shown[0])
    assert first is not None
    assert re.findall(r"<li>gadget \d+ number (\d+)</li>", shown[0]) == [i[1:] for i in people[int(first[1])][:-1]]
    assert f"({sum(row[0] for row in again)})" in page.split('id="repeats"')[1], "how many targets are repeats"
    assert "No user is cold" in page and page.count("<script>") == 1 and "users-filter" in page
    assert page == report_page(plan, board, all_tests(board), 1, known)
    assert load_test_data(plan, [model_result("One", [{"rmse": 1.0}])]) is None
