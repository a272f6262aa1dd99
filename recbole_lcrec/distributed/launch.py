"""Starts the processes of a run on this machine, as torchrun would, and sees to it that they end together.

Every process is the same command in an environment that names its place (RANK, WORLD_SIZE, ...), so what runs under
torchrun runs here. What this adds to torchrun: a free port, one message and the documented exit status when a process
fails, and signals that reach every process once, so that a training can write its state before it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.distributed.group import status_in
from recbole_lcrec.distributed.request import Processes
from recbole_lcrec.utils.cores import usable_cores
from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.program import CALLED_AS, program

GRACE = 20.0
"""Seconds that the others have to end after one process has failed."""

PROGRAM = (sys.executable, "-m", "recbole_lcrec")

_POLL = 0.1


def launch(argv: Sequence[str], wanted: Processes, program: Sequence[str] = PROGRAM) -> int:
    """Run the command in several processes; return its exit status when all of them have ended.

    Args:
        argv: Arguments of the command, without the program's name.
        wanted: How many processes, and where they meet.
        program: The program to start with these arguments.

    Raises:
        UserError: If the port is taken.
    """
    store = _store(wanted) if wanted.offset == 0 else None
    address = {
        "MASTER_ADDR": wanted.ip or "127.0.0.1",
        "MASTER_PORT": str(wanted.port if store is None else store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here, so no process has to make one
    }
    started: list[subprocess.Popen] = []
    with _forwarded(started) as caught:
        for local in range(wanted.here):
            started.append(_start([*program, *argv], wanted, local, address))
            if caught:  # a signal that came before this process could get it
                started[-1].send_signal(caught[0])
        status = _ended(started, caught, store)
    return status


def _store(wanted: Processes) -> Any:
    from torch import distributed

    host = wanted.ip or "127.0.0.1"
    try:
        return distributed.TCPStore(host, wanted.port or 0, is_master=True, wait_for_workers=False)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"ip={host}, port={wanted.port}: cannot be listened on ({reason_of(error)}). Choose another port."
        ) from error


def _start(command: Sequence[str], wanted: Processes, local: int, address: dict[str, str]) -> subprocess.Popen:
    cores = usable_cores()
    package = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        **address,
        CALLED_AS: program(),  # for the commands that they print
        "RANK": str(wanted.offset + local),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(wanted.everywhere),
        "LOCAL_WORLD_SIZE": str(wanted.here),
        # otherwise each would take all cores
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(cores // wanted.here, 1)),
    }
    # a session of their own: a terminal's Ctrl-C reaches them from here, once
    return subprocess.Popen(command, env=environment, start_new_session=True)


@contextmanager
def _forwarded(started: list[subprocess.Popen]) -> Iterator[list[int]]:
    """While the block runs, pass signals on to the processes; yields a list of those that came."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def pass_on(signum: int, frame: Any) -> None:
        caught.append(signum)
        _signal(started, signum)

    earlier = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)
        _signal(started, signal.SIGKILL)  # those still running after a failure


def _signal(started: Sequence[subprocess.Popen], signum: int) -> None:
    for process in started:
        if process.poll() is None:
            process.send_signal(signum)


def _ended(started: Sequence[subprocess.Popen], caught: list[int], store: Any) -> int:
    """Wait for all processes; once one has failed, end the others. Return the exit status of the whole."""
    first: int | None = None
    deadline = float("inf")
    while None in [process.poll() for process in started]:  # all are polled: any may be the first to fail
        if first is None and (failed := [number for number, process in enumerate(started) if process.returncode]):
            first, deadline = failed[0], time.monotonic() + GRACE
            if not caught:
                _signal(started, signal.SIGTERM)
        if time.monotonic() > deadline:
            _signal(started, signal.SIGKILL)
        time.sleep(_POLL)
    if caught:
        return 128 + caught[0]
    codes = [process.returncode for process in started]
    if not any(codes):
        return 0
    code = codes[first] if first is not None else next(filter(None, codes))
    if code < 0:
        print(
            f"error: process {codes.index(code) if first is None else first} of {len(codes)} was ended by "
            f"{signal.Signals(-code).name} (SIGKILL: perhaps there was too little memory). The others were ended too; "
            "a training that had begun goes on with --resume.",
            file=sys.stderr,
        )
    said = status_in(store) if store is not None else None
    return said or max(code, 1)
