"""Starting and ending processes together: one message, the documented exit status, and nobody left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from recbole_lcrec.distributed import group, launch
from recbole_lcrec.distributed.group import Place, place_of
from recbole_lcrec.distributed.launch import launch as launched
from recbole_lcrec.distributed.request import Processes, processes_of
from recbole_lcrec.utils.errors import UserError

WAITS = "import os, sys, time; open(f'{sys.argv[1]}/{os.environ[\"RANK\"]}', 'w').write(str(os.getpid()));"
SLEEPS = WAITS + "time.sleep(60)"


def program(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Processes()),
        ({"nproc": 4}, Processes(4, 4)),
        ({"nproc": 2, "world_size": -1, "port": "5678"}, Processes(2, 2, port=5678)),
        (
            {"nproc": 2, "world_size": 6, "ip": "10.0.0.1", "port": 29500, "group_offset": 4},
            Processes(2, 6, "10.0.0.1", 29500, 4),
        ),
    ],
)
def test_options_of_recbole_say_what_to_start(options: dict[str, object], expected: Processes) -> None:
    assert processes_of(options) == expected
    assert expected.several == (expected.everywhere > 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nproc": 4, "world_size": 2}, "world_size is 2, less than nproc=4"),
        ({"nproc": 2, "world_size": 4}, "give --ip and --port"),
        ({"nproc": 2, "world_size": 4, "ip": "a", "port": 1, "group_offset": 3}, "group_offset is 3"),
        ({"nproc": 2, "port": "many"}, "port is many"),
        ({"nproc": 2, "port": 70000}, "port is 70000"),
    ],
)
def test_wrong_numbers_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        processes_of(options)


def test_the_place_comes_from_torchruns_environment() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert place_of({**environment, "LOCAL_WORLD_SIZE": "2"}) == Place(3, 1, 4, 2)
    assert place_of({**environment, "WORLD_SIZE": "1"}) is None
    assert place_of({}) is None
    with pytest.raises(UserError, match="not a place in a group"):
        place_of({**environment, "RANK": "4"})


def test_every_process_gets_a_place(tmp_path: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    code = "import os, sys; file = open(sys.argv[1] + os.environ['RANK'], 'w');"
    code += f"print(*(os.environ[name] for name in {names}), file=file)"
    assert launched([f"{tmp_path}/"], Processes(2, 2), program(code)) == 0
    assert [(tmp_path / name).read_text() for name in "01"] == ["0 0 2 2\n", "1 1 2 2\n"]


def test_one_that_is_killed_ends_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.5)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPS
    dies = WAITS + "\nwhile not os.path.exists(sys.argv[1] + '/0'): time.sleep(0.01)\nos.kill(os.getpid(), 9)"
    code = f"import os\nexec({stubborn!r} if os.environ['RANK'] == '0' else {dies!r})"
    start = time.monotonic()
    assert launched([str(tmp_path)], Processes(2, 2), program(code)) == 1
    assert time.monotonic() - start < 30, "the failure of the second is seen while the first runs"
    message = capfd.readouterr().err
    assert message.startswith("error: process 1 of 2 was ended by SIGKILL") and message.count("\n") == 1
    assert not is_running(int((tmp_path / "0").read_text()))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_every_process(tmp_path: Path, signum: int, status: int) -> None:
    def send() -> None:
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "01"):
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    before = signal.getsignal(signum)
    assert launched([str(tmp_path)], Processes(2, 2), program(SLEEPS)) == status
    thread.join()
    assert signal.getsignal(signum) == before, "the handlers are put back"
    assert not any(is_running(int((tmp_path / name).read_text())) for name in "01")


def test_a_member_ends_without_taking_the_interpreter_down(capfd: pytest.CaptureFixture[str]) -> None:
    """Gloo's threads, which are still there, would abort the process."""
    code = """
import atexit, os
from recbole_lcrec.distributed import group
class Thing:
    def __del__(self): os.write(1, b"interpreter taken down\\n")
thing = Thing()
atexit.register(print, "registered for the end", end=" ")
with group.joined(group.place_of(os.environ)):
    group.barrier()
group.end_process(3 * group.place_of(os.environ).rank)
"""
    assert launched([], Processes(2, 2), program(code)) == 3
    assert capfd.readouterr().out == "registered for the end " * 2


def test_alone_nothing_is_exchanged() -> None:
    assert (group.from_main(7), group.gathered(7), group.summed([1.5])) == (7, [7], [1.5])
    assert group.is_main() and not group.several() and not group.has_failed()
    group.barrier()
    group.agreed("anything", 1)
    with group.main_first():
        pass
