"""Locks between processes: one run per output folder, one process that fetches or converts a data set.

They are the operating system's (flock, by the package filelock), so that a killed process leaves no lock behind. On
network file systems they hold between machines where the server supports locks (NFS 4 does). Where it does not, a
warning says so and processes are not kept apart.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_lcrec.utils.errors import UserError

logger = logging.getLogger(__name__)

LOCK = ".lock"
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this run; a second run there is refused, in this process or another.

    Raises:
        UserError: If another run is writing there, or this user may not.
    """
    with sole_lock(folder / LOCK, f"output_dir={folder}", "run", "another output_dir"):
        yield


@contextmanager
def sole_lock(path: Path, what: str, work: str, instead: str) -> Iterator[None]:
    """Hold the lock ``path``; if another process holds it, refuse at once.

    Args:
        path: The lock's file, which is removed with the lock.
        what: The option or the place that is locked, for messages.
        work: What its holder does there: "run".
        instead: What to choose instead: "another output_dir".

    Raises:
        UserError: If another process holds it, or this user may not.
    """
    try:
        lock = _acquired(path, wait=False)
    except Timeout:
        raise UserError(
            f"{what}: another {work} is writing there ({_holder(path)}). Wait for it, end it, or choose {instead}."
        ) from None
    except OSError as error:
        raise UserError(f"{what}: cannot be locked ({error.strerror}). Choose {instead}.") from error
    with _released(path, lock):
        yield


@contextmanager
def waiting_lock(path: Path, purpose: str = "working there") -> Iterator[None]:
    """Hold the lock ``path``, waiting for the process that has it.

    Args:
        path: The lock's file, which is removed with the lock.
        purpose: What its holder does, for the message while this process waits.

    Raises:
        OSError: If the file cannot be made, or its folder is removed in the meantime.
    """
    try:
        lock = _acquired(path, wait=False)
    except Timeout:
        logger.info("Another process is %s (%s): waiting for it.", purpose, _holder(path))
        lock = _acquired(path, wait=True)
    with _released(path, lock):
        yield


def _acquired(path: Path, *, wait: bool) -> FileLock | None:
    """Return the lock, held, with a note of its holder in the file; None where the file system has no locks."""
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock may outlive a process killed on another machine
    try:
        lock.acquire(blocking=wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: no locks on this file system (%s); start one run at a time.", path, error.strerror)
        return None
    path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    return lock


@contextmanager
def _released(path: Path, lock: FileLock | None) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: a process that waits for the file then makes a new one
        if lock is not None:
            lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "it has just started"
    except OSError:
        return "it has just ended"
