"""What kills and interruptions leave, and how a search goes on; in processes of their own, as they are killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from searching import arguments, curves, events, own_temporary_folder, prepare, process, wait_for

pytest.importorskip("ray")

SPACE = "learning_rate: {choice: [0.003, 0.001]}\n"
MANY = 200


def command(folder: Path, **changes: Any) -> list[str]:
    return arguments(folder, SPACE, search_alg="grid", epochs=MANY, stopping_step=MANY, eval_step=20, **changes)


def reported(out: Path, name: str, times: int = 1) -> Any:
    """Return the latest report of a trial once there are so many."""
    found = [event for event in events(out) if event["trial"] == name and event["event"] == "reported"]
    return found[-1] if len(found) >= times else None


def alive(pid: int) -> bool:
    return (
        Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    )


def ends(argv: list[str], folder: Path, temporary: Path) -> None:
    """Run a command to its end, which is to be a good one."""
    assert process(argv, folder, TMPDIR=str(temporary)).wait(300) == 0, (folder / "process.log").read_text()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return where the processes of a test have their temporary files."""
    with own_temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    with own_temporary_folder() as temporary:
        ends(command(folder), folder, temporary)
    return curves(folder / "out")


@pytest.mark.slow
def test_a_killed_trial_is_started_again_and_ctrl_c_keeps_what_is_done(
    tmp_path: Path, temporary: Path, undisturbed: Any
) -> None:
    prepare(tmp_path)
    out = tmp_path / "out"
    running = process(command(tmp_path, max_concurrent=1), tmp_path, TMPDIR=str(temporary))
    os.kill(wait_for(lambda: reported(out, "t0001"))["pid"], signal.SIGKILL)
    wait_for(lambda: any(event["event"] == "crashed" for event in events(out)))
    wait_for(lambda: reported(out, "t0002"))
    running.send_signal(signal.SIGINT)
    assert running.wait(120) == 130
    log = (tmp_path / "process.log").read_text()
    assert f"--resume_tune={out}" in log and "Traceback" not in log
    assert (out / "trials.csv").exists() and (out / "best.yaml").exists() and not (out / "result.json").exists()
    assert not list(temporary.glob("lcrec-*"))
    ends([f"--resume_tune={out}"], tmp_path, temporary)
    assert curves(out) == undisturbed
    starts = [event["trial"] for event in events(out) if event["event"] == "started"]
    assert starts == ["t0001", "t0001", "t0002", "t0002"]  # killed; cut short; what was over was not run again
    assert (out / "result.json").exists() and (out / "search-2.log").exists()


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path, temporary: Path, undisturbed: Any) -> None:
    prepare(tmp_path)
    out = tmp_path / "out"
    running = process(command(tmp_path, max_concurrent=1), tmp_path, TMPDIR=str(temporary))
    pid = wait_for(lambda: reported(out, "t0002"))["pid"]
    running.kill()
    running.wait()
    wait_for(lambda: not alive(pid), 60)  # nothing goes on behind the user's back
    ends([f"--resume_tune={out}"], tmp_path, temporary)
    assert curves(out) == undisturbed
    starts = [event["trial"] for event in events(out) if event["event"] == "started"]
    assert starts == ["t0001", "t0002", "t0002"]
    assert not list(temporary.glob("lcrec-*"))  # also what the killed search had left


@pytest.mark.slow
def test_a_population_goes_on_from_its_checkpoints(tmp_path: Path, temporary: Path) -> None:
    """Ended by SIGTERM after some generations: what was over stays so, the others go on where they were."""
    prepare(tmp_path)
    out = tmp_path / "out"
    space = "learning_rate: {choice: [1.0e+9, 0.0001, 0.01]}\n"  # the first one diverges
    given = arguments(tmp_path, space, scheduler="pbt", search_alg="grid", epochs=8, eval_step=2)
    # a busy machine, where a process cannot leave a trial in the time that Ray gives it
    running = process(given, tmp_path, TMPDIR=str(temporary), TUNE_FUNCTION_THREAD_TIMEOUT_S="0")
    wait_for(lambda: reported(out, "t0002", 2) and reported(out, "t0003", 2))
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) == 143, (tmp_path / "process.log").read_text()
    before = events(out)
    reports = [event for event in before if event["event"] == "reported"]
    last = {name: [report for report in reports if report["trial"] == name][-1] for name in ("t0002", "t0003")}
    assert all(4 <= report["epoch"] < 8 for report in last.values())
    assert [e["status"] for e in before if e["trial"] == "t0001" and e["event"] == "ended"] == ["failed"]
    assert not list(temporary.glob("lcrec-*"))

    ends([f"--resume_tune={out}"], tmp_path, temporary)
    assert events(out)[: len(before)] == before
    later = events(out)[len(before) :]
    assert not [event for event in later if event["trial"] == "t0001"]
    assert not any(event["anew"] for event in later if event["event"] == "started")
    for name, report in last.items():
        first = next(one for one in reports if one["trial"] == name)
        found = [event for event in later if event["trial"] == name and event["event"] == "reported"]
        # a checkpoint may have been written whose report did not get through any more
        assert found[0]["epoch"] in (report["epoch"] + 2, report["epoch"] + 4)
        assert found[0]["seconds"] > report["seconds"] and found[0]["score"] > first["score"]
    status = {event["trial"]: event["status"] for event in later if event["event"] == "ended"}
    assert sorted(status) == ["t0002", "t0003"] and "finished" in status.values()
    assert max(event["epoch"] for event in later if event["event"] == "reported") == 8
    assert (out / "result.json").exists() and not (out / ".ray").exists()
