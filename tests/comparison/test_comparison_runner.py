"""Running, resuming, failing and stopping, with processes that only pretend to train."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from comparison_helpers import ROOT, fake_child, started
from fakes import TINY, write_dataset

from recbole_lcrec.comparison import command, runner
from recbole_lcrec.comparison.plan import Plan, make_plan
from recbole_lcrec.comparison.results import load_run, read_ranks
from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.integrity import MANIFEST
from recbole_lcrec.utils.locks import run_lock

ENTRIES = (Entry("Pop", "Pop"), Entry("Exact", "ExactPop"), Entry("BPR", "BPR"))


def options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    return {**TINY, **data, "topk": [1, 2], "valid_metric": "NDCG@2", **changes}


def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], entries: Any = ENTRIES) -> Plan:
    plan = make_plan("toy", entries, (1, 2), given, 1)
    monkeypatch.setattr(runner, "COMMAND", fake_child(plan))
    return plan


def behave(plan: Plan, **behaviour: str) -> None:
    names = {name.replace("_", "-"): what for name, what in behaviour.items()}
    (plan.output_dir / "behaviour.json").write_text(json.dumps(names))


def board(plan: Plan) -> list[dict[str, str]]:
    with (plan.output_dir / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if "users" not in name} for row in rows]


def test_a_failure_ends_one_run_and_the_next_call_runs_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given)
    behave(plan, Pop_1="fail", Exact_2="killed")
    assert command.compare("toy", ENTRIES, (1, 2), given) == 1
    assert started(plan) == ["Pop-1", "Exact-1", "BPR-1", "Pop-2", "Exact-2", "BPR-2"]
    rows = {row["label"]: row for row in board(plan)}
    assert rows["Pop"]["status"] == rows["Exact"]["status"] == "1 of 2 runs" and rows["BPR"]["status"] == "ok"
    assert rows["Pop"]["reason"] == "seed 1: exit status 2: no luck today"
    assert rows["Exact"]["reason"] == "seed 2: killed by SIGKILL, perhaps because memory ran out"
    files = {path.name for path in plan.output_dir.iterdir()}
    assert {"leaderboard.csv", "leaderboard.md", "leaderboard.tex", "report.html", "significance.csv"} <= files
    log = (plan.output_dir / "comparison.log").read_text()
    assert "Failed: Pop, seed 1: exit status 2: no luck today" in log and "The same command tries them again" in log
    assert "Start 1 of 6: Pop, seed 1" in log and "to go, about" in log
    kept = plan.output_dir / "runs" / "BPR-1" / "result.json"
    before = kept.stat().st_mtime_ns
    behave(plan)
    assert command.compare("toy", ENTRIES, (1, 2), given) == 0
    assert started(plan) == ["Pop-1", "Exact-2"] and kept.stat().st_mtime_ns == before
    assert "BPR, seed 1: finished already, kept" in (plan.output_dir / "comparison.log").read_text()
    assert {row["status"] for row in board(plan)} == {"ok"}


def test_changed_options_run_again_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path)
    prepare(tmp_path, monkeypatch, given)
    assert command.compare("toy", ENTRIES, (1, 2), given) == 0
    changed = (*ENTRIES[:2], Entry("BPR", "BPR", {"learning_rate": 0.5}))
    plan = prepare(tmp_path, monkeypatch, {**given, "show_progress": True}, changed)
    started(plan)
    assert command.compare("toy", changed, (1, 2), {**given, "show_progress": True}) == 0
    assert started(plan) == ["BPR-1", "BPR-2"]
    assert (
        "BPR, seed 2: run again, as these options have changed: learning_rate"
        in (plan.output_dir / "comparison.log").read_text()
    )
    with (tmp_path / "toy" / "toy.item").open("a") as file:
        file.write("i99\tnew\tnew\n")
    with pytest.raises(UserError, match="toy.item of the data set changed since the comparison began"):
        command.compare("toy", changed, (1, 2), given)
    assert started(plan) == []


def test_runs_side_by_side_give_the_same_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = []
    for jobs in (1, 2):
        given = options(tmp_path, output_dir=str(tmp_path / f"out {jobs}"))
        plan = prepare(tmp_path, monkeypatch, given)
        assert command.compare("toy", ENTRIES, (1, 2), given, jobs) == 0
        boards.append((board(plan), (plan.output_dir / "significance.csv").read_text()))
    assert boards[0] == boards[1] and len(boards[0][0]) == 3


def test_a_folder_of_my_own_or_of_a_comparison_at_work_is_refused_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given)
    (plan.output_dir / "runs" / "Pop-1").mkdir(parents=True)
    (plan.output_dir / "runs" / "Pop-1" / "result.json").write_text("of the one at work")
    with run_lock(plan.output_dir), pytest.raises(UserError, match="another run is writing there"):
        command.compare("toy", ENTRIES, (1, 2), given)
    (plan.output_dir / "comparison.log").unlink()
    (plan.output_dir / "report.html").write_text("mine")
    with pytest.raises(UserError, match="holds files that no comparison of this version wrote .*report.html"):
        command.compare("toy", ENTRIES, (1, 2), given)
    assert (plan.output_dir / "report.html").read_text() == "mine" and started(plan) == []
    assert (plan.output_dir / "runs" / "Pop-1" / "result.json").read_text() == "of the one at work"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"test_result": {}, "split_sha256": 5}', "[" * 100_000])
def test_a_result_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=rf"result.json cannot be read .*\. Delete {tmp_path} and start again"):
        load_run(tmp_path)


@pytest.mark.parametrize("kept", [0, 30, 60])
def test_ranks_that_were_cut_short_are_told(tmp_path: Path, kept: int) -> None:
    whole = gzip.compress(b"user,item,rank\n" + b"".join(b"u%d,i%d,1\n" % (n, n * 7) for n in range(99)))
    (tmp_path / "ranks.csv.gz").write_bytes(whole[:kept])
    with pytest.raises(UserError, match=r"ranks.csv.gz cannot be read"):
        read_ranks(tmp_path / "ranks.csv.gz")


def test_different_splits_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given)
    behave(plan, Exact_1="split")
    with pytest.raises(UserError, match=r"Exact, seed 1 was tested on another split \(other\) than Pop, seed 1"):
        command.compare("toy", ENTRIES, (1, 2), given)
    assert started(plan) == ["Pop-1", "Exact-1"] and not (plan.output_dir / "leaderboard.csv").exists()


def test_a_failed_pretraining_is_the_models_failure_and_a_finished_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path)
    entries = (Entry("S3", "S3Rec", {"item_attribute": "title"}),)
    plan = prepare(tmp_path, monkeypatch, given, entries)
    behave(plan, pretrain="fail")
    assert command.compare("toy", entries, (1, 2), given) == 1
    assert started(plan) == ["S3-1/pretrain", "S3-2/pretrain"]
    behave(plan, S3_1="fail")
    assert command.compare("toy", entries, (1, 2), given) == 1
    assert started(plan) == ["S3-1/pretrain", "S3-1", "S3-2/pretrain", "S3-2"]
    behave(plan)
    assert command.compare("toy", entries, (1, 2), given) == 0
    assert started(plan) == ["S3-1"]
    assert board(plan)[0]["minutes"] == "0.2"  # six seconds of each stage
    assert (plan.output_dir / "runs" / "S3-1" / MANIFEST).is_file(), "or a real run would take it for somebody's own"


STOPPED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it
from recbole_lcrec.comparison import runner
runner.COMMAND = (sys.argv[1],)
from recbole_lcrec.cli import main as cli
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_stopping_stops_the_runs_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("orphans are ended on Linux only")
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given, ENTRIES[:2])
    fake, dying = plan.output_dir / "fake.py", plan.output_dir / "dying.py"
    # it asks for its end as the real process does
    dying.write_text("import os, sys\nfrom recbole_lcrec.cli.child import end_with_parent\n")
    with dying.open("a") as file:
        file.write("end_with_parent(int(sys.argv[1]))\n" + fake.read_text())
    behave(plan, Exact_1="hang")
    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump(given))
    arguments = ["--model=Pop,ExactPop as Exact", "--dataset=toy", "--seeds=1,2", f"--config_files={config}"]
    script = [sys.executable, "-c", STOPPED, str(dying), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pid_file = plan.output_dir / "hanging.pid"
    deadline = time.monotonic() + 60
    while not pid_file.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number, printed
        assert "finished ones are kept. Go on with:" in printed and "--seeds=1,2" in printed
    while _is_running(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(int(pid_file.read_text()))
    behave(plan)
    started(plan)
    assert command.compare("toy", ENTRIES[:2], (1, 2), given) == 0
    assert started(plan) == ["Exact-1", "Pop-2", "Exact-2"]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
