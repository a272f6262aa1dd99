import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from recbole_lcrec.config.loader import Given
from recbole_lcrec.tuning.importance import importance_of, least_trials
from recbole_lcrec.tuning.journal import JOURNAL, Journal
from recbole_lcrec.tuning.live import LiveTable, clock
from recbole_lcrec.tuning.report import report_page, write_outputs
from recbole_lcrec.tuning.results import SearchOutcome, best_yaml, trials_csv
from recbole_lcrec.tuning.schedulers import Explorer
from recbole_lcrec.tuning.space import Space, read_space
from recbole_lcrec.utils.errors import UserError


def space() -> Space:
    values = {
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
        "learner": {"choice": ["adam", "adamw"]},
        "weight_decay": {"choice": [0.0, 0.1], "when": {"learner": "adamw"}},
    }
    return read_space({name: Given(value, None, "x") for name, value in values.items()}, "x")


def report(journal: Journal, name: str, epoch: int, score: float, **changes: Any) -> None:
    values = changes.pop("values", journal.trials[name].values)
    journal.write(
        "reported", name, epoch=epoch, score=score, metrics={"ndcg@10": score, "hit@1": score / 2},
        seconds=epoch * 1.5, values=values, **changes,
    )  # fmt: skip


def filled(folder: Path, trials: int = 30) -> Journal:
    """A search in which the score follows the learning rate."""
    journal = Journal(folder / JOURNAL)
    for number, values in enumerate(space().random(trials, seed=0), 1):
        name = f"t{number:04d}"
        journal.write("planned", name, values=values)
        journal.write("started", name, anew=True)
        score = 0.1 * (space()["learning_rate"].position(values["learning_rate"]) + 5)
        report(journal, name, 1, score / 2)
        report(journal, name, 2, score)
        report(journal, name, 3, score - 0.01)
        journal.write("ended", name, status="finished")
    return journal


def outcome_of(journal: Journal, bigger: bool = True) -> SearchOutcome:
    given = {"epochs": 3, "output_dir": "/x"}
    return SearchOutcome("SASRec", "ml-100k", given, space(), journal, "ndcg@10", bigger, 2020)


def test_a_journal_is_read_back_and_continued(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    journal.close()
    again = Journal(tmp_path / JOURNAL)
    assert again.trials == journal.trials and again.events == journal.events
    report(again, "t0003", 4, 1.0)
    again.close()
    assert Journal(tmp_path / JOURNAL).best(True) == again.trials["t0003"]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path, 2).close()
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"event": "repor')
    journal = Journal(tmp_path / JOURNAL)
    journal.write("ended", "t0001", status="failed", error="x")
    journal.close()
    lines = (tmp_path / JOURNAL).read_bytes()
    assert lines.startswith(whole) and all(json.loads(line) for line in lines.splitlines())


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'nothing\n{"event": "planned", "trial": "t0001", "values": {}}\n')
    with pytest.raises(UserError, match=r"trials.jsonl, line 1"):
        Journal(tmp_path / JOURNAL)


def test_a_trial_that_starts_anew_forgets_and_a_failed_one_is_never_the_best(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    journal.write("started", "t0002", anew=True)
    assert journal.trials["t0002"].reports == [] and journal.trials["t0002"].starts == 2
    report(journal, "t0002", 1, 9.0)
    assert journal.best(True) is journal.trials["t0002"]
    assert journal.best(False) is not journal.trials["t0002"]
    journal.write("ended", "t0002", status="failed", error="nan")
    assert journal.best(True) is not journal.trials["t0002"]
    assert journal.ranked(True)[-1].name == "t0002"


def test_best_yaml_names_model_data_and_values(tmp_path: Path) -> None:
    outcome = outcome_of(filled(tmp_path))
    best = outcome.best()
    assert best is not None
    text = best_yaml(outcome, best)
    options = yaml.safe_load(text)
    assert options == {"model": "SASRec", "dataset": "ml-100k", "epochs": 3, **best.values}
    assert text.splitlines()[0].endswith("on validation after epoch 2.")


def test_trials_csv_has_one_line_per_trial_best_first(tmp_path: Path) -> None:
    lines = trials_csv(outcome_of(filled(tmp_path))).splitlines()
    assert lines[0].startswith("trial,status,valid_ndcg@10,valid_hit@1,best_epoch,epochs,seconds")
    scores = [float(line.split(",")[2]) for line in lines[1:]]
    assert len(scores) == 30 and scores == sorted(scores, reverse=True)


def test_the_page_names_every_part_and_needs_no_network(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.write("ended", "t0004", status="failed", error="<b>nan</b>")
    page = report_page(outcome_of(journal))
    for part in ("figure-parallel", "figure-curves", "figure-importance", "default-src 'none'", "&lt;b&gt;nan"):
        assert part in page
    assert "not tested yet" in page
    assert page == report_page(outcome_of(journal)) and "ndcg@10" not in page and "NDCG@10" in page
    tested = report_page(outcome_of(journal), {"test_result": {"ndcg@10": 0.1234, "hit@1": 0.1}})
    assert "0.1234" in tested and "tested once" in tested


def test_the_page_of_a_search_without_results(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    journal.write("planned", "t0001", values={"learning_rate": 0.1, "learner": "adam"})
    write_outputs(tmp_path, outcome_of(journal))
    assert "No trial has been validated" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "best.yaml").exists()
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 2


def test_importance_finds_the_option_that_matters(tmp_path: Path) -> None:
    trials = filled(tmp_path).ranked(True)
    values, scores = [trial.values for trial in trials], [trial.reports[1]["score"] for trial in trials]
    found = importance_of(space(), values, scores, seed=1)
    assert found is not None and next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.9 and found.trusted > 0.8
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert importance_of(space(), values, scores, seed=1) == found
    few = least_trials(space()) - 1
    assert importance_of(space(), values[:few], scores[:few], seed=1) is None
    assert importance_of(space(), values, [0.5] * len(values), seed=1) is None


def test_the_table_is_one_block_on_a_terminal_and_silent_when_asked(tmp_path: Path) -> None:
    written: list[str] = []
    stream: Any = SimpleNamespace(isatty=lambda: True, write=written.append, flush=lambda: None)
    journal = filled(tmp_path, 4)
    journal.write("started", "t0002", anew=False)
    options: dict[str, Any] = {"metric": "ndcg@10", "bigger": True, "total": 4, "epochs": 3, "budget": None}
    table = LiveTable(journal, **options, show=True, stream=stream)
    table.refresh(now=True)
    first = "".join(written)
    assert first.splitlines()[2].startswith("t0002") and "running" in first and "3 of 4 trials over" in first
    table.refresh(now=True)
    assert f"\x1b[{first.count(chr(10))}F\x1b[J" in "".join(written)
    written.clear()
    LiveTable(journal, **options, show=False, stream=stream).refresh(now=True)
    assert written == []
    assert [clock(5), clock(65), clock(3700)] == ["5 s", "1 min 05 s", "1 h 01 min"]


def test_pbt_moves_every_value_to_a_neighbour_within_its_range() -> None:
    values = {"learning_rate": {"loguniform": [1e-3, 1e-2]}, "train_batch_size": {"choice": [16, 32, 64]}}
    small = read_space({name: Given(value, None, "x") for name, value in values.items()}, "x")
    start = {"trial": {"name": "t0001", "values": {"learning_rate": 0.009, "train_batch_size": 64}}}
    explorer = Explorer(small, seed=1)
    moved = [explorer(start)["trial"]["values"] for _ in range(200)]
    assert all(1e-3 <= one["learning_rate"] <= 1e-2 for one in moved)
    assert {round(one["learning_rate"], 6) for one in moved} >= {0.0072, 0.01}
    assert {one["train_batch_size"] for one in moved} == {16, 32, 64}
    again = Explorer(small, seed=1)
    assert [again(start)["trial"]["values"] for _ in range(200)] == moved
