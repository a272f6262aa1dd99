"""Bookkeeping of what was read: every record is passed on or rejected under a reason, and the sums are checked."""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

from recbole_lcrec.utils.errors import UserError

PATIENCE = 1000  # this many bad records before the first good one: the wrong file, no need to read 10 GB of it


class Part:
    """Counts of one input (interactions, or items).

    Attributes:
        name: What it is called in messages: the file's name.
        read: Records found, good or bad.
        blank: Empty lines, which are not records.
        passed: Records passed on.
        rejected: Reason -> number of records.
    """

    def __init__(self, name: str, sink: BinaryIO | None = None) -> None:
        """Start at zero; rejected lines are written to ``sink`` as location, reason and line, separated by tabs."""
        self.name = name
        self.read = self.blank = self.passed = 0
        self.rejected: Counter[str] = Counter()
        self._sink = sink
        self._examples: dict[str, str] = {}

    def reject(self, where: str, reason: str, line: str | bytes) -> None:
        """Count a record that cannot be used and keep its line.

        Args:
            where: Line number, or something else that locates the record in its file.
            reason: One of a few fixed sentences.
            line: The record as found; line breaks inside it are written as backslash n.

        Raises:
            UserError: If only bad records have come so far, and many of them.
        """
        self.rejected[reason] += 1
        self._examples.setdefault(reason, where)
        if self._sink is not None:
            raw = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
            raw = raw.strip(b"\r\n").replace(b"\r", b"\\r").replace(b"\n", b"\\n")
            self._sink.write(f"{self.name}:{where}\t{reason}\t".encode() + raw + b"\n")
        if not self.passed and self.rejected.total() >= PATIENCE:
            raise self.unusable(f"none of the first {self.read} records")

    def unusable(self, found: str = "no record") -> UserError:
        """Return the error that says that nothing in this input can be used, with the reasons."""
        if not self.rejected:
            return UserError(f"{self.name}: the file is empty.")
        reasons = "; ".join(
            f"{reason} ({count} times, first at {self._examples[reason]})"
            for reason, count in self.rejected.most_common(3)
        )
        return UserError(f"{self.name}: {found} can be used: {reasons}. Did you give the right file and kind?")

    def check(self) -> None:
        """Assert that nothing was lost.

        Raises:
            UserError: If nothing was passed on.
        """
        assert self.read == self.passed + self.rejected.total(), (self.read, self.passed, self.rejected)
        if not self.passed:
            raise self.unusable()
