"""Standard streams that cannot end a run: closed ones, readers that went away (``| head``), full disks, ASCII locales.

A run takes hours, and everything it prints is in its log file too; it should not be lost with its terminal.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class LastingStream:
    """A text stream that drops what cannot be written.

    Attributes:
        lost: Why the stream can no longer be written to; None as long as it can.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.lost: Exception | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is waiting, or drop it."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Any) -> None:
        if self.lost is not None:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.lost = error
            with suppress(OSError, ValueError):  # what is left in its buffer must not fail at exit either
                target = os.open(os.devnull, os.O_WRONLY)
                os.dup2(target, self._stream.fileno())
                os.close(target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def problem(self) -> str | None:
        """Why something was not written; None if all was, or if the reader went away, having seen enough."""
        if self.lost is None or (isinstance(self.lost, OSError) and self.lost.errno == errno.EPIPE):
            return None
        return str((self.lost.strerror if isinstance(self.lost, OSError) else None) or self.lost)


@contextmanager
def lasting() -> Iterator[None]:
    """While the block runs, writing to the standard streams never raises."""
    _open_standard_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_standard_descriptors() -> None:
    """Give closed standard streams the null device: a file of the run must not take their descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _lasting(stream: Any) -> Any:
    if stream is None:  # Python found it closed at its start
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream if isinstance(stream, LastingStream) else LastingStream(stream)


def printable(text: str) -> str:
    """Return a text for the terminal: control characters, which could steer it, are escaped."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
