"""Runs the models of a plan and records what became of each.

What is finished is kept, and what fails is reported while the others go on. Who carries out a run is a matter of
:mod:`recbole_lcrec.comparison.workers`.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recbole_lcrec.comparison.plan import Plan, Run, Stage
from recbole_lcrec.comparison.workers import CONSOLE, GRACE_SECONDS, OPTIONS, End, Started, Workers
from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.utils.files import write_text
from recbole_lcrec.utils.run_files import RESULT
from recbole_lcrec.utils.run_folder import claim
from recbole_lcrec.utils.timer import in_words

logger = logging.getLogger(__name__)

COMMAND = ("-m", "recbole_lcrec.cli.child")
"""What Python is started with for a stage; the parent's process id and the options follow."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        run: The run.
        reason: "" if it succeeded, else why it failed.
        kept: Whether it had been finished before.
    """

    run: Run
    reason: str = ""
    kept: bool = False


@dataclass
class _Active:
    """A run in progress.

    Attributes:
        run: The run.
        todo: Its stages that are not finished, the one in progress first.
        started: That stage.
        began: When a machine took the run up, by ``time.monotonic()``; None while it waits.
    """

    run: Run
    todo: list[Stage]
    started: Started
    began: float | None = None

    @property
    def stage(self) -> Stage:
        return self.todo[0]

    @property
    def where(self) -> str:
        return f" on {self.started.where}" if self.started.where else ""

    def seconds(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began


class Runner:
    """Starts the runs of a plan and waits for them.

    Args:
        plan: What to run.
        workers: Who carries it out.
        finished: Called with each run that succeeded or was finished before; what it raises ends the comparison.
    """

    def __init__(self, plan: Plan, workers: Workers, finished: Callable[[Run], None]) -> None:
        self._plan, self._workers, self._finished = plan, workers, finished
        self._waiting: list[Run] = []
        self._active: list[_Active] = []
        self._begun = self._total = 0
        self._durations: dict[str, list[float]] = {}

    def run(self) -> list[RunOutcome]:
        """Run everything that is not finished yet; return how each run ended, in the plan's order.

        Whatever ends this early (Ctrl-C, SIGTERM, a different split) stops the processes first.
        """
        outcomes = [RunOutcome(run, kept=True) for run in self._plan.runs if self._is_finished(run)]
        self._waiting = [run for run in self._plan.runs if run not in [outcome.run for outcome in outcomes]]
        self._total = len(self._waiting)
        for outcome in outcomes:
            self._finished(outcome.run)
        try:
            while self._waiting or self._active:
                while self._waiting and (self._workers.at_once is None or len(self._active) < self._workers.at_once):
                    self._active.append(self._start(self._waiting.pop(0)))
                time.sleep(_POLL_SECONDS)
                for one in list(self._active):
                    reason = self._look_at(one)
                    if reason is None:
                        continue
                    self._active.remove(one)
                    outcomes.append(RunOutcome(one.run, reason))
                    self._report(one, reason)
        finally:
            _stop([one.started for one in self._active])
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

    def _start(self, run: Run) -> _Active:
        # a stage that changed outdates all that build on it
        first = next(number for number, stage in enumerate(run.stages) if not stage.is_finished())
        todo = list(run.stages[first:])
        for stage in reversed(run.stages):  # the last one's folder holds those of the others
            stage.folder.mkdir(parents=True, exist_ok=True)
            if not any(stage.folder.iterdir()):
                claim(stage.folder)  # or the run would take it for a folder of the user's own files
        one = _Active(run, todo, self._start_stage(todo[0]))
        self._see_beginning(one)
        return one

    def _start_stage(self, stage: Stage) -> Started:
        (stage.folder / RESULT).unlink(missing_ok=True)  # an old result must not pass for this run's
        write_text(stage.folder / OPTIONS, dump_values(dict(stage.options)))
        return self._workers.start(COMMAND, stage.folder)

    def _see_beginning(self, one: _Active) -> None:
        if one.began is None and one.started.where is not None:
            one.began = time.monotonic()
            self._begun += 1
            log = one.run.folder / CONSOLE
            logger.info("Start %d of %d%s: %s (log in %s)", self._begun, self._total, one.where, one.run.name, log)

    def _look_at(self, one: _Active) -> str | None:
        """Return why a run failed, "" if it is finished, None if it goes on, perhaps with its next stage."""
        end = one.started.poll()
        self._see_beginning(one)
        if end is None:
            return None
        if end.status != 0 or not (one.stage.folder / RESULT).is_file():
            return _reason(end, one.stage.folder / CONSOLE)
        one.todo.pop(0)
        if not one.todo:
            return ""
        one.started = self._start_stage(one.stage)
        return None

    def _report(self, one: _Active, reason: str) -> None:
        took = in_words(one.seconds())
        if reason:
            logger.error("Failed after %s%s: %s: %s", took, one.where, one.run.name, reason)
            return
        self._durations.setdefault(one.run.entry.label, []).append(one.seconds())
        logger.info(
            "Finished after %s%s: %s. %d to go%s", took, one.where, one.run.name,
            len(self._waiting) + len(self._active), self._estimate(),
        )  # fmt: skip
        self._finished(one.run)

    def _estimate(self) -> str:
        """Return how long the rest takes, judged by the finished runs of the same model, else by all of them."""
        everything = [seconds for times in self._durations.values() for seconds in times]
        if not (self._waiting or self._active) or not everything:
            return ""

        def rest(run: Run, seconds: float = 0.0) -> float:
            times = self._durations.get(run.entry.label, everything)
            return max(sum(times) / len(times) - seconds, 0.0)

        left = [*map(rest, self._waiting), *(rest(one.run, one.seconds()) for one in self._active)]
        together = 1 + sum(one.began is not None for one in self._active)  # with the one that has just ended
        return f", about {in_words(max(sum(left) / together, *left))} left"


def _stop(started: list[Started]) -> None:
    """End what is still running, with its own processes."""
    for one in started:
        one.ask_to_end()
    deadline = time.monotonic() + GRACE_SECONDS
    for one in started:
        one.end_by(deadline)


def _reason(end: End, console: Path) -> str:
    """Return in one line why a process failed."""
    status = end.status
    if status is None:
        return end.lost
    lines = [line.strip() for line in console.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["it printed nothing"])[-1]
    return f"exit status {status}: {last[:300]}"
