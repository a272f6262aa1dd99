"""Runs in a forked child that can really be killed, without paying the imports again."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def in_child(action: Callable[[], int], log: Path, send: tuple[int, Path] | None = None) -> int:
    """Run ``action`` in a forked process; return its exit status, or minus the signal that ended it.

    Args:
        action: What to do; its value is the exit status.
        log: Gets what it prints.
        send: A signal, and the file whose appearance it is sent upon.
    """
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        status = 99
        with contextlib.suppress(BaseException), open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            torch.set_num_threads(1)
            try:
                status = action()
            except BaseException:
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    if send is not None:
        wait_for(send[1])
        os.kill(process, send[0])
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def wait_for(path: Path, seconds: float = 60) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def after(calls: int, owner: Any, name: str, then: Callable[[], Any]) -> None:
    """From the given call on, have a method do ``then`` before its work. For children: nothing is put back."""
    original, count = getattr(owner, name), 0

    def changed(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count >= calls:
            then()
        return original(*arguments, **options)

    setattr(owner, name, changed)


def kill() -> None:
    """End this process as the kernel would: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
