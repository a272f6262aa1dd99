"""SIGTERM and Ctrl-C: a training writes its state first, everything else stops at once and cleans up.

Only the command line installs the handlers, so that they never meddle with a program that uses this package.
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.program import program

SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLEANING = 10.0
"""Seconds for which further signals are ignored after one has ended the work, so that they cannot cut off cleaning up;
impatient users press Ctrl-C many times."""


class Interrupted(BaseException):
    """A signal asked the process to end. Not an Exception, so that nothing takes it for a failure and goes on.

    Attributes:
        signum: The signal.
        run_dir: Folder of a run that ``--resume`` can go on with, or None.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.run_dir: Path | None = None

    @property
    def status(self) -> int:
        """The exit status that shells expect: 143 after SIGTERM, 130 after Ctrl-C."""
        return 128 + self.signum

    def __str__(self) -> str:
        how = (
            f"Go on with: {program()} --resume={shlex.quote(str(self.run_dir))}"
            if self.run_dir
            else "Start it again with the same command"
        )
        return f"stopped by {signal.Signals(self.signum).name}. {how}"


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it is to end a block as Ctrl-C does (see :func:`terminations`)."""

    status = 128 + signal.SIGTERM
    """The exit status that shells expect."""


@contextmanager
def terminations() -> Iterator[None]:
    """While the block runs, let SIGTERM end it as Ctrl-C does; outside the main thread, do nothing.

    For code that starts processes of its own (comparisons, searches) and has to end them first.

    Raises:
        Terminated: Upon SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    told = False

    def end(number: int, frame: Any) -> None:
        nonlocal told
        told = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as stop:
        if told and not isinstance(stop, Terminated):  # Ray's calls raise it even if a handler raised another
            raise Terminated from stop
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class _Watch:
    """What the handler knows: who installed it, whether it has to wait, and which signal came."""

    process = 0
    waiting = 0
    signum: int | None = None
    ended: float | None = None
    shared = False
    agreed: int | None = None


_watch = _Watch()


@contextmanager
def watched(*, shared: bool = False) -> Iterator[None]:
    """While the block runs, turn the signals into :class:`Interrupted`; outside the main thread, do nothing.

    Args:
        shared: Whether several processes train together. A waiting signal then counts (:func:`asked`, :func:`check`)
            only once they have all heard of it (:func:`agree`), so that all stop after the same step.
    """
    _watch.shared, _watch.agreed = shared, None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch.process, _watch.waiting, _watch.signum, _watch.ended = os.getpid(), 0, None, None
    earlier = {signum: signal.signal(signum, _on_signal) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)
        _watch.signum, _watch.ended, _watch.agreed, _watch.shared = None, None, None, False


def _on_signal(signum: int, frame: Any) -> None:
    if os.getpid() != _watch.process:  # a forked worker, whose state does not matter
        if signum == signal.SIGINT:
            return  # a terminal sends it to all; the main process still needs its workers for a step
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    if _watch.ended is not None and time.monotonic() - _watch.ended < CLEANING:
        return
    again = _watch.signum is not None
    _watch.signum = signum
    if again or not _watch.waiting:
        _watch.ended = time.monotonic()
        raise Interrupted(signum)


@contextmanager
def postponed() -> Iterator[None]:
    """While the block runs, a first signal waits until :func:`check` is called; a second one does not."""
    _watch.waiting += 1
    try:
        yield
    except Exception as error:
        if _watch.signum is None:
            raise
        raise Interrupted(_watch.signum) from error  # such as workers that got the signal too, and ended
    finally:
        _watch.waiting -= 1
    if _watch.shared and _watch.signum is not None:  # it came after the last step that could be agreed on
        raise Interrupted(_watch.signum)


def pending() -> int | None:
    """Return the waiting signal that this process received; None without one."""
    return _watch.signum


def agree(signum: int | None) -> None:
    """Note the signal that any process of the group received; None if there was no signal."""
    _watch.agreed = signum


def asked() -> bool:
    """Return whether a signal is waiting."""
    return _asked() is not None


def check() -> None:
    """Stop now if a signal is waiting.

    Raises:
        Interrupted: If so.
    """
    if (signum := _asked()) is not None:
        raise Interrupted(signum)


def _asked() -> int | None:
    return _watch.agreed if _watch.shared else _watch.signum
