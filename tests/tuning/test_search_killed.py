"""What kills and interruptions leave, and how a search goes on; in processes of their own, as they are killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from searching import arguments, curves, events, prepare, process, temporary_folders, wait_for

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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    assert process(command(folder), folder).wait(200) == 0, (folder / "process.log").read_text()
    return curves(folder / "out")


@pytest.mark.slow
def test_a_killed_trial_is_started_again_and_ctrl_c_keeps_what_is_done(tmp_path: Path, undisturbed: Any) -> None:
    prepare(tmp_path)
    out, before = tmp_path / "out", temporary_folders()
    running = process(command(tmp_path, max_concurrent=1), tmp_path)
    os.kill(wait_for(lambda: reported(out, "t0001"))["pid"], signal.SIGKILL)
    wait_for(lambda: any(event["event"] == "crashed" for event in events(out)))
    wait_for(lambda: reported(out, "t0002"))
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    log = (tmp_path / "process.log").read_text()
    assert f"--resume_tune={out}" in log and "Traceback" not in log
    assert (out / "trials.csv").exists() and (out / "best.yaml").exists() and not (out / "result.json").exists()
    assert temporary_folders() == before
    assert process([f"--resume_tune={out}"], tmp_path).wait(200) == 0, (tmp_path / "process.log").read_text()
    assert curves(out) == undisturbed
    starts = [event["trial"] for event in events(out) if event["event"] == "started"]
    assert starts == ["t0001", "t0001", "t0002", "t0002"]  # killed; cut short; what was over was not run again
    assert (out / "result.json").exists() and (out / "search-2.log").exists()


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path, undisturbed: Any) -> None:
    prepare(tmp_path)
    out, before = tmp_path / "out", temporary_folders()
    running = process(command(tmp_path, max_concurrent=1), tmp_path)
    pid = wait_for(lambda: reported(out, "t0002"))["pid"]
    running.kill()
    running.wait()
    wait_for(lambda: not alive(pid), 60)  # nothing goes on behind the user's back
    assert process([f"--resume_tune={out}"], tmp_path).wait(200) == 0, (tmp_path / "process.log").read_text()
    assert curves(out) == undisturbed
    starts = [event["trial"] for event in events(out) if event["event"] == "started"]
    assert starts == ["t0001", "t0002", "t0002"]
    assert temporary_folders() == before  # also what the killed search had left
