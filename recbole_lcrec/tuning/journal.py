"""The memory of a search: one line of JSON per event, from which everything else is made again.

The line is on the disk before the search goes on, so a killed search loses nothing but what its trials were doing. A
line that the kill cut short is dropped when the journal is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError

JOURNAL = "trials.jsonl"
WAITING, RUNNING, FINISHED, STOPPED, FAILED, CUT = "waiting", "running", "finished", "stopped", "failed", "cut short"
"""What becomes of a trial. Cut short: by the time budget, Ctrl-C or a kill; ``--resume_tune`` runs it again."""
OVER = (FINISHED, STOPPED, FAILED)


@dataclass
class TrialRecord:
    """What is known of a trial.

    Attributes:
        name: t0001, t0002, ...
        values: Option -> value, of the space; the current ones, as pbt changes them.
        status: One of the words above.
        reports: One per validation: epoch, score, metrics, seconds (since the start), values, and for pbt ``copied``
            (the trial whose checkpoint the training continued from; epochs may then repeat), in order of time.
        error: Why it failed.
        starts: How often its process was started (pbt starts a trial again to change it).
        crashes: How often its process died.
        seconds: Spent in all processes.
        node: Where it ran last.
        pid: Its process.
        checkpoint: Where its latest state for pbt lies in the storage; None without one.
        saved_epoch: Epochs done in that state.
    """

    name: str
    values: dict[str, Any]
    status: str = WAITING
    reports: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    starts: int = 0
    crashes: int = 0
    seconds: float = 0.0
    node: str | None = None
    pid: int | None = None
    checkpoint: str | None = None
    saved_epoch: int = 0

    @property
    def epoch(self) -> int:
        """Epochs done at the last validation."""
        return self.reports[-1]["epoch"] if self.reports else 0

    def best(self, bigger: bool) -> dict[str, Any] | None:
        """Return the report with the best score, the earliest of equal ones.

        Args:
            bigger: Whether a greater score is better.
        """
        if not self.reports:
            return None
        return (max if bigger else min)(self.reports, key=lambda report: report["score"])


class Journal:
    """Appends events to a file and keeps the trials that follow from them.

    Args:
        path: The file; an existing one is read and continued.

    Raises:
        UserError: If a line of the file other than the last one is broken.
    """

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.trials: dict[str, TrialRecord] = {}
        whole = 0
        if path.exists():
            for number, (event, size) in enumerate(_read(path), 1):
                self.events.append(event)
                try:
                    self._apply(event)
                except (KeyError, TypeError) as error:
                    raise _broken(path, number, error) from error
                whole = size
        self._file = path.open("ab")
        self._file.truncate(whole)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, event: str, trial: str, **details: Any) -> None:
        """Append an event and wait until it is on the disk.

        Args:
            event: planned, started, reported, crashed or ended.
            trial: Name of the trial.
            details: Further details, as plain values.
        """
        line = {"event": event, "trial": trial, **details}
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(line)
        self._apply(line)

    def _apply(self, event: dict[str, Any]) -> None:
        kind, name = event["event"], event["trial"]
        if kind == "planned":
            self.trials[name] = TrialRecord(name, event["values"])
            return
        trial = self.trials[name]
        if kind == "started":
            trial.status, trial.error = RUNNING, None
            trial.starts += 1
            if event["anew"]:
                trial.reports, trial.checkpoint, trial.saved_epoch = [], None, 0
        elif kind == "reported":
            keys = ("epoch", "score", "metrics", "seconds", "values", "copied")
            trial.reports.append({key: event.get(key) for key in keys})
            trial.values, trial.node, trial.pid = event["values"], event.get("node"), event.get("pid")
            trial.seconds = event["seconds"]
            if "checkpoint" in event:
                trial.checkpoint, trial.saved_epoch = event["checkpoint"], event["epoch"]
        elif kind == "crashed":
            trial.crashes += 1
            trial.status, trial.error = WAITING, event["error"]
        elif kind == "ended":
            trial.status, trial.error = event["status"], event.get("error")

    def best(self, bigger: bool) -> TrialRecord | None:
        """Return the trial with the best score, the first of equal ones; None without any.

        Failed trials are left out: their configuration cannot be recommended, however well it began.
        """
        ranked = self.ranked(bigger)
        return ranked[0] if ranked and ranked[0].reports and ranked[0].status != FAILED else None

    def ranked(self, bigger: bool) -> list[TrialRecord]:
        """Return all trials, best first; those that failed or have no score come last."""

        def key(trial: TrialRecord) -> tuple[int, float, str]:
            best = trial.best(bigger)
            if best is None:
                return 2, 0.0, trial.name
            return int(trial.status == FAILED), -best["score"] if bigger else best["score"], trial.name

        return sorted(self.trials.values(), key=key)


def _broken(path: Path, number: int, error: Exception) -> UserError:
    return UserError(
        f"{path}, line {number}: this is not an event of a search ({error}). The journal was changed by hand or the "
        "disk is damaged; take the line out, or start the search anew."
    )


def _read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every event and the number of bytes up to its end; what follows the last line break is left out."""
    position = 0
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            event = json.loads(line)
            known = event["event"], event["trial"]
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(path, number, error) from error
        assert all(isinstance(part, str) for part in known)
        position += len(line) + 1
        yield event, position
