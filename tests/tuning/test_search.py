"""Searches that really run, on a small data set; every one costs some seconds for Ray and its processes."""

import csv
import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from searching import GRID, arguments, change_test_items, curves, events, prepare
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_lcrec.cli import main as cli
from recbole_lcrec.experiment import evaluate, run

pytest.importorskip("ray")


def processes_with(text: str) -> list[psutil.Process]:
    """Return the processes that have a text in their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A grid of three trials, one of which diverges, as many at once as fit."""
    folder = prepare(tmp_path_factory.mktemp("search"))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as own, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", own)  # other searches run beside this one
        assert cli.main(arguments(folder, GRID, search_alg="grid")) == 0
        assert not list(Path(own).iterdir()) and not processes_with(own)
    yield folder


def test_what_a_search_writes(searched: Path) -> None:
    names = {path.name for path in (searched / "out").iterdir()}
    expected = {"best.yaml", "trials.csv", "report.html", "result.json", "tensorboard", "trials", "trials.jsonl"}
    assert names == expected | {"ranks.csv.gz", "search.json", "search.log"}
    assert {path.name for path in (searched / "out" / "tensorboard").iterdir()} == {"t0001", "t0002", "t0003"}
    kept = [path.parent.name for path in (searched / "out" / "trials").glob("*/checkpoint")]
    assert kept == ["t0001"]  # of the best trial alone


def test_a_failing_trial_is_recorded_and_ends_nothing(searched: Path) -> None:
    with (searched / "out" / "trials.csv").open() as file:
        rows = {row["trial"]: row for row in csv.DictReader(file)}
    assert [rows[name]["status"] for name in ("t0001", "t0002", "t0003")] == ["finished", "finished", "failed"]
    assert "loss is nan" in rows["t0003"]["error"] and rows["t0003"]["crashes"] == "0"
    assert [epoch for epoch, _ in curves(searched / "out")["t0001"]] == [1, 2, 3]
    assert json.loads((searched / "out" / "result.json").read_text())["trials"] == {"failed": 1, "finished": 2}


def test_the_best_trial_s_checkpoint_is_tested_once_with_the_numbers_of_a_plain_run(searched: Path) -> None:
    result = json.loads((searched / "out" / "result.json").read_text())
    best = yaml.safe_load((searched / "out" / "best.yaml").read_text())
    assert result["values"] == {"learning_rate": best["learning_rate"]} and result["trial"] == "t0001"
    plain = run(config_files=[searched / "out" / "best.yaml"], cli={"output_dir": str(searched / "plain")})
    assert plain["test_result"] == result["test_result"]
    assert plain["best_valid_result"] == result["best_valid_result"]
    ranks = searched / "out" / result["ranks"]["file"]
    assert ranks.read_bytes() == (searched / "plain" / "ranks.csv.gz").read_bytes()
    assert evaluate(searched / "out" / "trials" / "t0001")["test_result"] == result["test_result"]


def test_best_yaml_is_a_configuration_file(searched: Path) -> None:
    command = cli.parse([f"--config_files={searched / 'out' / 'best.yaml'}"])
    assert (command.model, command.dataset) == ("SASRec", "toy")


def test_trials_hold_no_test_metrics(searched: Path) -> None:
    test = json.loads((searched / "out" / "result.json").read_text())["test_result"]
    for event in events(searched / "out"):
        assert not [key for key in event if "test" in key]
        assert event.get("metrics") != test
    for log in (searched / "out" / "trials").glob("*/trial.log"):
        assert ": validation " in log.read_text() and "best valid" not in log.read_text(), "there is no table"
    for folder in (searched / "out" / "tensorboard").iterdir():
        curves_of_trial = EventAccumulator(str(folder)).Reload()
        assert "test" not in {name.split("/")[0] for name in curves_of_trial.Tags()["scalars"]}


def test_a_search_cannot_see_the_test_items_and_does_not_depend_on_parallel_trials(
    searched: Path, tmp_path: Path
) -> None:
    """The same search on data with other test items, one trial at a time: the same configurations and metrics."""
    prepare(tmp_path)
    change_test_items(tmp_path)
    assert cli.main(arguments(tmp_path, GRID, search_alg="grid", max_concurrent=1)) == 0
    assert curves(tmp_path / "out") == curves(searched / "out")
    results = [json.loads((folder / "out" / "result.json").read_text()) for folder in (searched, tmp_path)]
    assert results[0]["split_sha256"] != results[1]["split_sha256"]
    assert results[0]["test_result"] != results[1]["test_result"]
    assert results[0]["best_valid_result"] == results[1]["best_valid_result"]


def test_a_trial_has_no_loader_of_the_test_phase(searched: Path, tmp_path: Path) -> None:
    from recbole_lcrec.config import LCRecConfig
    from recbole_lcrec.experiment import build

    options = yaml.safe_load((searched / "out" / "best.yaml").read_text())
    experiment = build(config=LCRecConfig(cli={**options, "output_dir": str(tmp_path)}), with_test=False)
    assert experiment.test_data is None and experiment.evaluate("test") is None


def test_a_folder_with_a_search_is_not_written_over(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (searched / "out" / "trials.jsonl").read_bytes()
    assert cli.main(arguments(searched, GRID, search_alg="grid")) == 2
    assert "--resume_tune=" in capsys.readouterr().err
    assert (searched / "out" / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "varies learning_rate, but the command"),
        ({"epochs": 1, "eval_step": 2}, "trials would never be validated"),
        ({"gpus_per_trial": 1}, "but Ray sees 0 GPU(s)"),
        ({"address": "127.0.0.1:1"}, "no Ray cluster answers there"),
    ],
)
def test_what_is_found_wrong_before_a_trial_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    if "gpus_per_trial" in changes:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    prepare(tmp_path)
    assert cli.main(arguments(tmp_path, GRID, search_alg="grid", **changes)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "trials").exists()


def test_an_option_that_the_model_does_not_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path)
    assert cli.main(arguments(tmp_path, "lm_dropout: {choice: [0.0, 0.1]}\n", search_alg="grid")) == 2
    assert "lm_dropout: model SASRec has no such option" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pbt_copies_a_better_trial_and_changes_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine, where a process cannot leave a trial in the time that Ray gives it
    monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "0")
    prepare(tmp_path)
    space = "learning_rate: {choice: [0.0001, 0.01]}\n"
    given = arguments(tmp_path, space, scheduler="pbt", search_alg="grid", epochs=4)
    assert cli.main(given) == 0
    reports = [event for event in events(tmp_path / "out") if event["event"] == "reported"]
    copied = [report for report in reports if report["copied"]]
    assert copied and {report["trial"] for report in copied} == {"t0001"}  # the one that learned too slowly
    assert copied[0]["copied"] == "t0002" and copied[0]["values"] == {"learning_rate": 0.01}
    before = [report["score"] for report in reports if report["trial"] == "t0001" and not report["copied"]]
    assert copied[0]["score"] > before[-1] + 0.1  # the weights came along
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["best_valid_result"]["ndcg@10"] == max(report["score"] for report in reports)
    assert not (tmp_path / "out" / ".ray").exists() and not list((tmp_path / "out" / "trials").glob("*/.state-*"))


@pytest.mark.slow
def test_an_index_is_built_once_for_all_trials(tmp_path: Path) -> None:
    from fakes import TINY

    prepare(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "show_progress": False}))
    given = [a for a in arguments(tmp_path, "learning_rate: {choice: [0.001, 0.003]}\n", search_alg="grid", epochs=1)
             if not a.startswith(("--model=", "--hidden_size", "--inner_size", "--n_layers"))]  # fmt: skip
    assert cli.main([*given, "--model=LCRec", f"--config_files={path}"]) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_result"]
    logs = [path.read_text() for path in (tmp_path / "out" / "trials").glob("*/trial.log")]
    assert len(logs) == 2 and not any("RQ-VAE:" in log for log in logs)
    assert len(list((tmp_path / "cache").rglob("index.json"))) == 1
