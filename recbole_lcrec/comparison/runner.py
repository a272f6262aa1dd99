"""Runs the models of a plan, each in a process of its own: a crash, or the kernel's out-of-memory kill, ends one run.

What is finished is kept, and what fails is reported while the others go on.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_lcrec.comparison.plan import Plan, Run, Stage
from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.io import write_text
from recbole_lcrec.saved_run import RESULT

logger = logging.getLogger(__name__)

CONSOLE, OPTIONS = "console.log", "options.yaml"
"""Files in the folder of a run: what its process printed, and the options that it was given."""

COMMAND = ("-m", "recbole_lcrec.comparison.child")
"""What Python is started with for a stage; the parent's process id and the options follow."""

_POLL_SECONDS, _GRACE_SECONDS = 0.1, 10.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: The run.
        reason: "" when it succeeded, else why it failed.
        kept: Whether it had been finished before.
    """

    run: Run
    reason: str = ""
    kept: bool = False


@dataclass
class _Active:
    run: Run
    started: float
    todo: list[Stage]
    process: subprocess.Popen[bytes] | None = None
    files: ExitStack = field(default_factory=ExitStack)

    @property
    def stage(self) -> Stage:
        return self.todo[0]


class Runner:
    """Starts the runs of a plan and waits for them.

    Args:
        plan: What to run.
        finished: Called with each run that succeeded or was finished before; what it raises ends the comparison.
    """

    def __init__(self, plan: Plan, finished: Callable[[Run], None]) -> None:
        self._plan, self._finished = plan, finished
        self.threads = max(1, len(os.sched_getaffinity(0)) // plan.jobs)
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdigit() and int(given):  # who limits the threads of this process limits those of the runs
            self.threads = min(self.threads, int(given))
        self._durations: dict[str, list[float]] = {}

    def run(self) -> list[Outcome]:
        """Run everything that is not finished yet; return how each run ended, in the plan's order.

        Whatever ends this early (Ctrl-C, SIGTERM, a different split) stops the processes first.
        """
        outcomes = [Outcome(run, kept=True) for run in self._plan.runs if self._is_finished(run)]
        waiting = [run for run in self._plan.runs if run not in [outcome.run for outcome in outcomes]]
        for outcome in outcomes:
            self._finished(outcome.run)
        active: list[_Active] = []
        total = len(waiting)
        try:
            while waiting or active:
                while waiting and len(active) < self._plan.jobs:
                    active.append(self._start(waiting.pop(0), total - len(waiting), total))
                time.sleep(_POLL_SECONDS)
                for one in [one for one in active if one.process is not None and one.process.poll() is not None]:
                    reason = self._end_of_stage(one)
                    if reason is None:
                        continue
                    active.remove(one)
                    outcomes.append(Outcome(one.run, reason))
                    self._report(one, reason, len(waiting) + len(active), waiting, active)
        finally:
            _stop(active)
        place = {id(run): number for number, run in enumerate(self._plan.runs)}
        return sorted(outcomes, key=lambda outcome: place[id(outcome.run)])

    def _is_finished(self, run: Run) -> bool:
        if all(stage.is_finished() for stage in run.stages):
            logger.info("%s: finished already, kept (%s)", run.name, run.folder)
            return True
        changes = run.stages[-1].changes()
        if changes:
            logger.info("%s: run again, as these options have changed: %s", run.name, ", ".join(changes))
        return False

    def _start(self, run: Run, number: int, total: int) -> _Active:
        one = _Active(run, time.monotonic(), [stage for stage in run.stages if not stage.is_finished()])
        # a stage that changed makes all that build on it old
        first = run.stages.index(one.todo[0])
        one.todo = list(run.stages[first:])
        logger.info("Start %d of %d: %s (log in %s)", number, total, run.name, run.folder / CONSOLE)
        self._start_stage(one)
        return one

    def _start_stage(self, one: _Active) -> None:
        folder = one.stage.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)  # an old result must not pass for this run's
        write_text(folder / OPTIONS, dump_values(dict(one.stage.options)))
        console = one.files.enter_context((folder / CONSOLE).open("wb"))
        # the command line reads the value as YAML, which would take quotes away, then splits it at blanks
        escaped = re.sub(r"([^\w@%+=:,./-])", r"\\\1", str(folder / OPTIONS))
        command = [sys.executable, *COMMAND, str(os.getpid()), f"--config_files={escaped}"]
        one.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            start_new_session=True,  # Ctrl-C reaches the comparison, which ends its processes itself
        )

    def _environment(self) -> dict[str, str]:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads)}

    def _end_of_stage(self, one: _Active) -> str | None:
        """Return why the run failed, "" if it is finished, None if its next stage was started."""
        assert one.process is not None
        one.files.close()
        status = one.process.returncode
        if status != 0 or not (one.stage.folder / RESULT).is_file():
            return _reason(status, one.stage.folder / CONSOLE)
        one.todo.pop(0)
        if not one.todo:
            return ""
        self._start_stage(one)
        return None

    def _report(self, one: _Active, reason: str, left: int, waiting: list[Run], active: list[_Active]) -> None:
        seconds = time.monotonic() - one.started
        if reason:
            logger.error("Failed after %s: %s: %s", _minutes(seconds), one.run.name, reason)
        else:
            self._durations.setdefault(one.run.entry.label, []).append(seconds)
            logger.info(
                "Finished after %s: %s. %d to go%s", _minutes(seconds), one.run.name, left,
                self._estimate(waiting, active),
            )  # fmt: skip
            self._finished(one.run)

    def _estimate(self, waiting: list[Run], active: list[_Active]) -> str:
        """Return how long the rest takes, judged by the runs of the same model, else by all that were finished."""
        everything = [seconds for times in self._durations.values() for seconds in times]
        if not (waiting or active) or not everything:
            return ""

        def expected(run: Run) -> float:
            times = self._durations.get(run.entry.label, everything)
            return sum(times) / len(times)

        now = time.monotonic()
        running = sum(max(expected(one.run) - (now - one.started), 0.0) for one in active)
        rest = (running + sum(map(expected, waiting))) / self._plan.jobs
        return f", about {_minutes(rest)} left"


def _stop(active: list[_Active]) -> None:
    """End the processes that are still running, with their own processes."""
    processes = [one.process for one in active if one.process is not None and one.process.poll() is None]
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    for one in active:
        one.files.close()


def _signal(process: Any, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _reason(status: int, console: Path) -> str:
    """Return in one line why a process failed."""
    lines = [line.strip() for line in console.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["it printed nothing"])[-1]
    return f"exit status {status}: {last[:300]}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
