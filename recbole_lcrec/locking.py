"""One run per output folder: a lock that the operating system drops when the process ends, however it ends."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_lcrec.errors import UserError

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this run; a second run there is refused, in this process or another.

    It is an flock: a killed run leaves no lock behind. On network file systems it holds between machines where the
    server supports locks (NFS 4 does); where it does not, a warning says so and two runs are not noticed.

    Raises:
        UserError: If another run is writing there.
    """
    path = folder / LOCK
    handle = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is gone: who waits for the file then makes a new one
        if handle is not None:
            os.close(handle)


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock of the processes of this machine, waiting for whoever has it; where there are none, do nothing."""
    with path.open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(path: Path) -> int | None:
    if fcntl is None:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise UserError(
                f"output_dir={path.parent}: another run is writing there ({owner or 'it has just started'}). Wait for "
                "it, end it, or choose another output_dir."
            ) from None
        except OSError as error:
            os.close(handle)
            logger.warning("%s: no locks on this file system (%s); start one run at a time.", path, error.strerror)
            return None
        if _is_file(handle, path):
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return handle
        os.close(handle)  # the run that held it has just ended and removed it


def _is_file(handle: int, path: Path) -> bool:
    """Return whether ``path`` still names the open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
