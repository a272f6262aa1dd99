"""Users to look at: which ones, what they had, and how a run's and a comparison's page show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.evaluation import users
from recbole_lcrec.experiment import run
from recbole_lcrec.experiment.split_loaders import split_of
from recbole_lcrec.pages import render
from recbole_lcrec.utils.timer import StageTimer

PLAIN = {"show_progress": False, "use_gpu": False, "epochs": 2, "eval_step": 1, "train_batch_size": 16}


def sequences(folder: Path) -> dict[str, list[str]]:
    """Return everyone's items in the order of the file, which is that of time."""
    found: dict[str, list[str]] = {}
    for line in (folder / "toy" / "toy.inter").read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        found.setdefault(user, []).append(item)
    return found


@pytest.mark.parametrize("model", ["Pop", "SASRec", "LCRec"])
@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.5, 0.2, 0.3]}])
def test_histories_are_whole_and_end_where_the_test_begins(tmp_path: Path, model: str, split: dict[str, Any]) -> None:
    given = {**TINY, "data_path": str(write_dataset(tmp_path)), "MAX_ITEM_LIST_LENGTH": 3}
    eval_args = {"split": split, "order": "TO", "group_by": "user"}
    data, parts = split_of(LCRecConfig(model, "toy", [], {**given, "eval_args": eval_args}), StageTimer())
    later: dict[str, list[str]] = {}
    for user, item in zip(*(parts[2].inter_feat[name].tolist() for name in ("user_id", "item_id")), strict=True):
        token = str(data.id2token("user_id", user))
        later.setdefault(token, []).append(str(data.id2token("item_id", item)))
    before = users.histories(data, parts[2], sorted(later))
    assert {user: [*before[user], *later[user]] for user in before} == sequences(tmp_path)


def test_histories_of_a_ready_split_are_those_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    head = "user_id:token\titem_id:token\titem_id_list:token_seq"
    rows = {"train": ["a\tx\ty", "b\ty\tx"], "valid": ["a\ty\ty x"], "test": ["a\tz\tx y x y", "b\tx\tx y"]}
    for part, lines in rows.items():
        (tmp_path / "toy" / f"toy.{part}.inter").write_text("\n".join([head, *lines]) + "\n")
    intervals = {"user_inter_num_interval": None, "item_inter_num_interval": None}
    given = {**PLAIN, **intervals, "data_path": str(tmp_path), "benchmark_filename": ["train", "valid", "test"]}
    for model in ("Pop", "SASRec"):
        data, parts = split_of(LCRecConfig(model, "toy", [], {**given, "MAX_ITEM_LIST_LENGTH": 3}), StageTimer())
        assert users.histories(data, parts[2], ["b", "a"]) == {"b": ["x", "y"], "a": ["y", "x", "y"]}


def test_the_same_users_are_drawn_in_whatever_order_they_come() -> None:
    tokens, items = [f"u{n}" for n in range(100)], [f"i{n % 7}" for n in range(100)]
    first = [tokens[row] for row in users.drawn(tokens, items, 10)]
    order = np.random.default_rng(1).permutation(100)
    mixed = [tokens[row] for row in order]
    assert [mixed[row] for row in users.drawn(mixed, [items[row] for row in order], 10)] == first
    assert len(set(first)) == 10 and sorted(users.drawn(tokens[:3], items[:3])) == [0, 1, 2]


def chosen(**changes: Any) -> users.Chosen:
    given: dict[str, Any] = {
        "users": ["<u1>", "u2"], "targets": ["a", "b"], "lengths": [22, 1], "popularity": [0, 5],
        "groups": [("2–22", "0, cold"), ("1", "5")], "names": (["1", "2–22"], ["0, cold", "5"]),
        "histories": [["b"] * 21 + ["a"], ["c"]], "titles": {"a": "</script><b>A & 'a'", "b": "B" * 200},
    }  # fmt: skip
    return users.Chosen(**{**given, **changes})


def test_what_is_told_of_a_user() -> None:
    models = [
        users.Lists("One", [1, 30], [False, True], [["a", "b", ""], ["c", "", ""]]),
        users.Lists("Two", [2, 3], [False, False], [["c", "a", "b"], ["a", "c", "b"]]),
    ]
    first, second = users.page_rows(chosen(), models, ["apart drawn", "drawn"], [0.5, 1 / 3])
    assert first["history"] == [users.clipped("B" * 200, 90)] * 19 + ["</script><b>A & 'a'"], "the last twenty"
    assert first["again"] and not second["again"] and second["history"] == ["c"], "without a title, the token"
    assert (first["hits"], second["hits"]) == ("all", "some") and (first["places"], second["places"]) == (3, 3)
    one, two = second["answers"]
    assert (one["rank"], one["found"]) == ("30 or beyond", False) and (two["rank"], two["found"]) == ("3", True)
    assert [(item["item"], item["hit"], item["again"]) for item in two["items"]] == [
        ("a", False, False),
        ("c", False, True),
        ("b", True, False),
    ]
    length, popularity = np.array([5, 1, 5, 9]), np.array([0, 3, 3, 0])
    named, names = users.group_names(length, popularity)
    assert named == [("5", "0, cold"), ("1–2, cold", "3"), ("5", "3"), ("9", "0, cold")]
    assert names == (["1–2, cold", "5", "9"], ["0, cold", "3"])


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_a_run_has_a_page_with_its_users(tmp_path: Path, model: str) -> None:
    places = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    result = run(model, "toy", {**PLAIN, **places, "output_dir": str(tmp_path / "out")})
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{model} on toy" in page and page.count("<h2>") == 4 and page.count('<figure id="figure-') == 2
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page) and "default-src 'none'" in page
    assert f"<td>{result['test_result']['ndcg@10']:.4f}</td>" in page
    shown = page.split('<details class="user"')[1:]
    everyone = sequences(tmp_path)
    assert len(shown) == len(everyone) == 40
    for part in shown:
        user = re.search(r"<summary><b>(\w+)</b>", part)
        assert user is not None
        *history, target = everyone[user[1]]
        names = re.findall(r"<li>gadget \d+ number (\d+)</li>", part)
        assert [f"i{name}" for name in names] == history[-20:]
        places = re.findall(r'<td( class="hit")? title="(i\d+)">', part)
        assert len(places) == 10 and [bool(hit) for hit, _ in places] == [item == target for _, item in places]
        assert ("not found" in part) == all(item != target for _, item in places)
    hits = sum('class="hit"' in part for part in shown)
    assert hits == round(result["test_result"]["hit@10"] * 40), "the lists are those of the test"


def test_a_title_that_cannot_be_read_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = {**PLAIN, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    (tmp_path / "toy" / "toy.item").write_text("item_id:token\ttitle:token_seq\ni1\tone\ttwo\n")
    run("ExactPop", "toy", {**given, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}})
    assert "item tokens in place of titles" in (tmp_path / "out" / "run.log").read_text()
    assert '<ol class="history"><li>i' in (tmp_path / "out" / "report.html").read_text()


def test_texts_are_escaped() -> None:
    rows = users.page_rows(chosen(), [users.Lists("<m>", [1, 3], [False, True], [["a"], ["c"]])])
    result = {
        "model": "<m>", "dataset": "<d>", "seed": 1, "epochs": None, "parameters": {"total": 1}, "split_sha256": "s",
        "memory": {"peak_mib": 1.0}, "versions": {}, "kind": "search <b>",
    }  # fmt: skip
    shown = {"rows": rows, "groups": chosen().choices(), "total": 2}
    page = render(
        "run.html", result=result, valid_metric="ndcg@10", metrics=[], beyond=[], seconds="", curves=[], shown=shown
    )
    assert page.count("<script>") == 1 and not re.search("<b>A|<u1>|<m>|<d>|search <b>", page)
    assert "&lt;u1&gt;" in page and "&lt;/script&gt;&lt;b&gt;A &amp; &#39;a&#39;" in page
