"""How a stage of a run is started, watched and ended; here as a process of this machine.

A process of its own for every stage: a crash, or the kernel's out-of-memory kill, ends one run. What runs elsewhere
(:mod:`recbole_lcrec.comparison.tasks`) has the same interface. Needs no torch.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONSOLE, OPTIONS = "console.log", "options.yaml"
"""Files in the folder of a stage: what its process printed, and the options that it was given."""

GRACE_SECONDS = 10.0
"""How long a process is given to end by itself when the comparison stops."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class End:
    """How a stage ended.

    Attributes:
        status: Exit status of its process, or minus the signal that ended it; None if it was lost with its worker.
        lost: Why there is no status.
    """

    status: int | None
    lost: str = ""


class Started(Protocol):
    """A stage that was started."""

    @property
    def where(self) -> str | None:
        """The machine that it runs on, "" for this one, None while it waits for a machine."""

    def poll(self) -> End | None:
        """Return how it ended, None if it has not."""

    def ask_to_end(self) -> None:
        """Have its process asked to end, without waiting for that."""

    def end_by(self, deadline: float) -> None:
        """Wait for its end until ``time.monotonic()`` is ``deadline``, then end it by force."""


class Workers(Protocol):
    """Whoever carries out the stages."""

    @property
    def threads(self) -> int:
        """Threads of torch that a run gets."""

    @property
    def at_once(self) -> int | None:
        """Most runs to submit at a time; None for all of them, which then wait for their turn themselves."""

    def start(self, command: Sequence[str], folder: Path) -> Started:
        """Start a stage.

        Args:
            command: Python's arguments; the parent's process id and the options follow.
            folder: The stage's folder, with its options.
        """

    def describe(self) -> str:
        """Return who carries out the runs, for the log and the report."""


class LocalWorkers:
    """Carries out stages as processes of this machine, which share its cores.

    Args:
        at_once: Processes at once.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.threads = max(1, len(os.sched_getaffinity(0)) // at_once)
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdigit() and int(given):  # a limit on this process's threads also holds for the runs
            self.threads = min(self.threads, int(given))

    def start(self, command: Sequence[str], folder: Path) -> Process:
        """See :class:`Workers`."""
        return Process(start_child(command, folder, {"OMP_NUM_THREADS": str(self.threads)}))

    def describe(self) -> str:
        """See :class:`Workers`."""
        return f"{self.at_once} at once"


class Process:
    """A stage in a process of this machine.

    Args:
        process: Its process, which leads a session of its own.
    """

    where = ""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> End | None:
        """See :class:`Started`."""
        status = self._process.poll()
        return None if status is None else End(status)

    def ask_to_end(self) -> None:
        """See :class:`Started`."""
        self._signal(signal.SIGTERM)

    def end_by(self, deadline: float) -> None:
        """See :class:`Started`."""
        try:
            self._process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


def start_child(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the process of a stage; what it prints goes to the console file in the stage's folder.

    Args:
        command: Python's arguments; the parent's process id and the options follow.
        folder: The stage's folder, with its options.
        variables: Environment that differs from this process's.
    """
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    # the command line reads the value as YAML, which would take quotes away, then splits it at blanks
    escaped = re.sub(r"([^\w@%+=:,./-])", r"\\\1", str(folder / OPTIONS))
    with (folder / CONSOLE).open("wb") as console:
        return subprocess.Popen(
            [sys.executable, *command, str(os.getpid()), f"--config_files={escaped}"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, **variables},
            start_new_session=True,  # Ctrl-C reaches the comparison, which ends its processes itself
        )


def carry_out(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[str | int]:
    """Run a stage in a process of the machine where this is called, as a task of Ray; see :func:`start_child`.

    Yields:
        The machine's name once it has begun, then the exit status, or minus the signal that ended the process.
    """
    # Ray cancels a task by SIGINT, which a cluster started in the background of a shell ignores
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = Process(start_child(command, folder, variables))
    try:
        yield socket.gethostname()
        while (end := process.poll()) is None:
            time.sleep(_POLL_SECONDS)  # not waiting for the process itself: Ray cancels a task between two statements
        assert end.status is not None
        yield end.status
    finally:
        process.ask_to_end()
        process.end_by(time.monotonic() + GRACE_SECONDS)
