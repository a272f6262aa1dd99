"""Comparisons on a Ray cluster of two nodes, with processes that only pretend to train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from comparison_helpers import ROOT, started
from ray_nodes import cluster_of
from test_comparison_runner import ENTRIES, STOPPED, _is_running, behave, board, options, prepare

from recbole_lcrec.comparison import command, tasks
from recbole_lcrec.comparison.specs import Cluster
from recbole_lcrec.comparison.workers import End
from recbole_lcrec.utils.errors import UserError

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(1, 1) as made:
        yield made


def compared(cluster: Any, given: dict[str, Any], **how: Any) -> int:
    where = Cluster(cluster.address, how.pop("cpus", 1.0), how.pop("gpus", None))
    return command.compare("toy", how.pop("entries", ENTRIES), (1, 2), given, how.pop("jobs", None), where)


def places(plan: Any) -> dict[str, tuple[str, int]]:
    """Return the threads of each run, and the process that started it."""
    lines = [line.split() for line in (plan.output_dir / "places.txt").read_text().splitlines()]
    return {name: (threads, int(parent)) for name, threads, parent in lines}


def test_a_lost_worker_ends_one_run_and_any_comparison_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any
) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given)
    behave(plan, Pop_1="fail", Exact_2="killed", BPR_1="orphan")
    assert compared(cluster, given) == 1
    assert sorted(started(plan)) == ["BPR-1", "BPR-2", "Exact-1", "Exact-2", "Pop-1", "Pop-2"]
    rows = {row["label"]: row for row in board(plan)}
    assert rows["Pop"]["reason"] == "seed 1: exit status 2: no luck today"
    assert rows["Exact"]["reason"] == "seed 2: killed by SIGKILL, perhaps because memory ran out"
    assert rows["BPR"]["reason"].startswith("seed 1: Ray's worker was killed")
    log = (plan.output_dir / "comparison.log").read_text()
    assert "as tasks of 1 CPU(s) and 0 GPU(s) on a Ray cluster, whose 2 machine(s) have room for 2 at once" in log
    assert f"Start 1 of 6 on {os.uname().nodename}: " in log
    assert {threads for threads, _ in places(plan).values()} == {"1"}
    assert os.getpid() not in {parent for _, parent in places(plan).values()}
    folder = plan.output_dir / "runs" / "Pop-2"
    assert {"console.log", "options.yaml", "result.json"} <= {path.name for path in folder.iterdir()}
    behave(plan)
    assert command.compare("toy", ENTRIES, (1, 2), given) == 0, "on one machine"
    assert started(plan) == ["Pop-1", "BPR-1", "Exact-2"]
    whole = board(plan)
    (folder / "result.json").unlink()
    assert compared(cluster, given) == 0
    assert started(plan) == ["Pop-2"] and board(plan) == whole


def test_a_run_gets_its_cpus_and_jobs_is_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any
) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given)
    cluster.add_node(num_cpus=2)
    assert compared(cluster, given, cpus=2.0, jobs=1) == 0
    assert started(plan) == ["Pop-1", "Exact-1", "BPR-1", "Pop-2", "Exact-2", "BPR-2"]
    assert {threads for threads, _ in places(plan).values()} == {"2"}
    log = (plan.output_dir / "comparison.log").read_text()
    assert "at most 1 at once, as tasks of 2 CPU(s) and 0 GPU(s) on a Ray cluster, whose 1 machine(s) have room" in log


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_stopping_stops_the_runs_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any, number: signal.Signals
) -> None:
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
    script = [sys.executable, "-c", STOPPED, str(dying), *arguments, "--jobs=1", f"--address={cluster.address}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pid_file = plan.output_dir / "hanging.pid"
    deadline = time.monotonic() + 90
    while not pid_file.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=40)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number, printed
        assert "finished ones are kept. Go on with:" in printed and f"--address={cluster.address}" in printed
        assert not _is_running(int(pid_file.read_text())), "ended before the comparison"
    while _is_running(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(int(pid_file.read_text()))
    behave(plan)
    assert started(plan) == ["Pop-1", "Exact-1"]
    assert command.compare("toy", ENTRIES[:2], (1, 2), given) == 0
    assert started(plan) == ["Exact-1", "Pop-2", "Exact-2"]


@pytest.mark.parametrize("name", ["output_dir", "cache_dir", "data_path", "text_encoder"])
def test_a_machine_that_does_not_see_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any, name: str
) -> None:
    given = options(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = Path("/proc/self/cwd")  # another folder for every process
    (tmp_path / "e.npy").write_text("x")
    values = {"output_dir": f"{own}/out", "cache_dir": f"{own}/cache", "data_path": str(own)}
    given[name] = values.get(name, f"file:{own}/e.npy")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    shown = f"{name}={given[name]}" if name in values else f"{own}/e.npy"
    with pytest.raises(UserError) as caught:
        compared(cluster, given, entries=(ENTRIES[0], command.Entry("LCRec", "LCRec")))
    assert f"({cluster.head_node.node_ip_address}) does not see {shown}\n" in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"cpus": 100.0}, "cpus_per_run is 100, but no machine has more than"),
        ({"gpus": 1.0}, r"gpus_per_run is 1, but Ray sees 0 GPU\(s\)"),
    ],
)
def test_what_no_machine_has_is_refused(tmp_path: Path, cluster: Any, how: dict[str, Any], message: str) -> None:
    given = options(tmp_path)
    with pytest.raises(UserError, match=message):
        compared(cluster, given, **how)
    assert not (tmp_path / "out").exists()


def test_no_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Ray cluster answers there"):
        compared(SimpleNamespace(address="127.0.0.1:1"), options(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_result_may_be_seen_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["there", 0])
    ray = SimpleNamespace(wait=lambda refs, timeout: (refs, []), get=lambda answer: answer)
    ray.exceptions = SimpleNamespace(RayError=ZeroDivisionError)
    task = tasks.RayStage(ray, answers, tmp_path / "result.json")
    assert (task.where, task.poll(), task.poll(), task.where) == (None, None, None, "there")
    (tmp_path / "result.json").touch()
    assert task.poll() == End(0)
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr(tasks, "_UNSEEN_SECONDS", 0.0)
    assert task.poll() == End(0), "its process left none"


@pytest.mark.slow
def test_a_lost_machine_ends_its_run_and_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any
) -> None:
    given = options(tmp_path)
    plan = prepare(tmp_path, monkeypatch, given, ENTRIES[:1])
    behave(plan, Pop_1="hang")
    for _ in range(2):
        cluster.add_node(num_cpus=3)
    hanging = plan.output_dir / "hanging.pid"

    def lose_machine() -> None:
        while not hanging.exists() or not hanging.read_text():
            time.sleep(0.1)
        worker = psutil.Process(int(hanging.read_text())).parent()
        raylet = worker.parent()
        assert "raylet" in raylet.name()
        raylet.kill()  # a worker outlives it, and could still tell how its run ended
        worker.kill()

    losing = threading.Thread(target=lose_machine)
    losing.start()
    assert compared(cluster, given, cpus=3.0, jobs=1, entries=ENTRIES[:1]) == 1
    losing.join()
    (row,) = board(plan)
    assert row["status"] == "1 of 2 runs" and row["reason"].startswith("seed 1: "), row
    assert "machine was lost" in row["reason"]
    os.kill(int(hanging.read_text()), signal.SIGKILL)  # what only pretends does not end with its parent
