"""The tables of results: written from committed records, which say what made each number."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.comparison import leaderboard, results, specs
from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.record import write_record

ROOT = Path(__file__).resolve().parents[2]


def load_tables() -> Any:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_tables_are_what_the_records_say(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == tables.filled(page), "run python docs/generate.py"


def test_results_have_no_table_of_another_origin() -> None:
    for page in (ROOT / "docs" / "results").rglob("*.md"):
        assert not re.search(r"^\|", tables.TABLE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE), page


def test_every_record_is_shown_and_names_no_folder_of_a_machine() -> None:
    shown = {name for page in tables.pages() for name in tables.TABLE.findall(page.read_text(encoding="utf-8"))}
    assert shown == {path.stem for path in tables.RECORDS.glob("*.json")}
    for name in shown:
        assert not re.search(r"[\"'= :]/\w", json.dumps(tables.load(name))), name


def test_a_record_that_does_not_say_what_made_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    made = dict.fromkeys(tables.MADE)
    (tmp_path / "a.json").write_text(json.dumps({**made, "columns": {"x": "x"}, "rows": [{"x": 1}]}))
    assert tables.load("a")["rows"] == [{"x": 1}]
    del made["seeds"]
    (tmp_path / "a.json").write_text(json.dumps({**made, "columns": {"x": "x"}, "rows": [{"x": 1}]}))
    with pytest.raises(ValueError, match="does not say seeds"):
        tables.load("a")


def finished(seed: int, ndcg: float, validations: list[float]) -> results.RunResult:
    points = [{"epoch": n, "seconds": 1.0, "valid": {"NDCG@10": value}} for n, value in enumerate(validations)]
    result = {
        "test_result": {"ndcg@10": ndcg},
        "best_valid_result": {"ndcg@10": max(validations)},
        "epochs": len(validations),
        "learning_curve": points,
        "parameters": {"total": 5},
        "split_sha256": "abc",
        "machine": {"cores": 2, "torch_threads": 1},
        "versions": {"recbole_lcrec": "0.1.0"},
        "date": "2026-01-02",
        "commit": "1234567",
    }
    return results.RunResult(seed, result, None, 90.0)


def test_a_comparison_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    first = results.ModelResult(
        specs.Entry("A", "SASRec", {"loss_type": "BPR"}),
        (finished(1, 0.10, [0.1, 0.2]), finished(2, 0.12, [0.3, 0.2])),
        {},
    )
    second = results.ModelResult(specs.Entry("B", "Pop", {}), (), {1: "failed", 2: "failed"})
    board = leaderboard.make_board([second, first], "ndcg@10")
    write_record(Plan("toy", (), (1, 2), {"epochs": 2}, 1, tmp_path, ()), board)
    tables.add(tmp_path, "new")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: new -->\n<!-- /table -->\nafter\n")
    assert tables.filled(page).splitlines() == [
        "before",
        "<!-- table: new -->",
        "| model | NDCG@10 | validation | epochs | minutes | still rose | status |",
        "|---|---|---|---|---|---|---|",
        "| A | **.1100 ± .0141** | .2500 ± .0707 | 2 | 1.5 | yes | ok |",
        "| B | – | – | – | – | – | failed |",
        "",
        "<small>Measured: `1234567`, 2026-01-02 (version 0.1.0); machine: cores 2, torch threads 1, runs at once 1; "
        "seeds: 1, 2; trials: not recorded; –: not recorded. [Commands and all fields](new.json)</small>",
        "<!-- /table -->",
        "after",
    ]
    record = tables.load("new")
    assert record["options"] == {"epochs": 2} and record["rows"][0]["still_rising"] == [True, False]
