"""What a running search shows: one block that is refreshed on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from typing import Any, TextIO

from tabulate import tabulate

from recbole_lcrec.tuning.journal import CUT, OVER, RUNNING, Journal, TrialRecord

logger = logging.getLogger(__name__)


def clock(seconds: float) -> str:
    """Return seconds as 42 s, 5 min 03 s or 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class LiveTable:
    """Shows the trials while they run.

    Args:
        journal: The search's.
        metric: The metric that counts.
        bigger: Whether a greater score is better.
        total: Trials of the search.
        epochs: Most epochs of a trial.
        budget: Seconds after which the search ends, or None.
        show: Option ``show_progress``.
        stream: Where it is shown.
    """

    def __init__(
        self, journal: Journal, *, metric: str, bigger: bool, total: int, epochs: int, budget: float | None,
        show: bool, stream: TextIO | None = None,
    ) -> None:  # fmt: skip
        self._journal, self._metric, self._bigger = journal, metric, bigger
        self._total, self._epochs, self._budget = total, epochs, budget
        self._stream = stream or sys.stderr
        self._show, self._terminal = show, self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._done_before = self._epochs_done()
        self._lines = 0

    def refresh(self, *, now: bool = False) -> None:
        """Show the current state, at most twice a second on a terminal, elsewhere every half minute."""
        if not self._show:
            return
        every = 0.5 if self._terminal else 30.0
        if not now and time.monotonic() - self._last < every:
            return
        self._last = time.monotonic()
        if self._terminal:
            text = self.block(shutil.get_terminal_size().lines)
            self.clear()
            self._stream.write(text + "\n")
            self._lines = text.count("\n") + 1
        else:
            self._stream.write(self.summary() + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the block off the terminal, before something else is printed."""
        if self._lines:
            self._stream.write(f"\x1b[{self._lines}F\x1b[J")
            self._stream.flush()
            self._lines = 0

    def ended(self, trial: TrialRecord) -> None:
        """Log that a trial is over."""
        self.clear()
        best = trial.best(self._bigger)
        score = f"{self._metric} {best['score']:.4f} after epoch {best['epoch']}" if best else "no result"
        why = f" ({trial.error})" if trial.error else ""
        logger.info("%s %s: %s%s. %s", trial.name, trial.status, score, why, self.summary())

    def summary(self) -> str:
        """Return the state in one line."""
        trials = self._journal.trials.values()
        over = sum(trial.status in OVER for trial in trials)
        running = sum(trial.status == RUNNING for trial in trials)
        best = self._journal.best(self._bigger)
        parts = [f"{over} of {self._total} trials over, {running} running"]
        if best is not None:
            report = best.best(self._bigger)
            assert report is not None
            parts.append(f"best {best.name} {self._metric} {report['score']:.4f}")
        parts.append(f"{clock(time.monotonic() - self._start)} so far")
        if (left := self._left()) is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    def block(self, height: int) -> str:
        """Return the table with its summary.

        Args:
            height: Lines of the terminal; rows that do not fit are left out, running trials last.
        """
        shown = [t for t in self._journal.ranked(self._bigger) if t.starts]
        shown.sort(key=lambda trial: trial.status != RUNNING)  # stable: then by score
        room = max(height - 6, 3)
        rows = [self._row(trial) for trial in shown[:room]]
        head = ["trial", "status", "epoch", self._metric, "best", "seconds", "values"]
        table = tabulate(rows, headers=head, floatfmt=(".4f", "", "", ".4f", ".4f", ".0f", ""), missingval="-")
        more = [f"... and {len(shown) - room} more"] if len(shown) > room else []
        width = max(shutil.get_terminal_size().columns - 1, 20)
        return "\n".join(line[:width] for line in [*table.splitlines(), *more, self.summary()])

    def _row(self, trial: TrialRecord) -> list[Any]:
        best = trial.best(self._bigger)
        last = trial.reports[-1]["score"] if trial.reports else None
        values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
        epoch = f"{trial.epoch}/{trial.values.get('epochs', self._epochs)}"
        return [trial.name, trial.status, epoch, last, best and best["score"], trial.seconds, values]

    def _epochs_done(self) -> int:
        return sum(trial.epoch for trial in self._journal.trials.values())

    def _left(self) -> float | None:
        """Return the seconds left: what the epochs so far took times those to come, at most the rest of the budget.

        Trials that will be stopped early are not foreseen, so the time is an upper estimate.
        """
        passed = time.monotonic() - self._start
        rest = None if self._budget is None else max(self._budget - passed, 0.0)
        done = self._epochs_done() - self._done_before
        if not done:
            return rest
        to_come = 0
        for trial in self._journal.trials.values():
            if trial.status not in (*OVER, CUT):
                to_come += max(int(trial.values.get("epochs", self._epochs)) - trial.epoch, 0)
        to_come += self._epochs * max(self._total - len(self._journal.trials), 0)
        estimate = passed / done * to_come
        return estimate if rest is None else min(estimate, rest)
