"""A part of a benchmark in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from recbole_lcrec.utils.errors import UserError


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)`` computed in a fresh process, which has then ended by itself.

    A pool would kill its process in the end, and Python would report the semaphores that it made (tqdm's lock) as
    leaked; and a pool would wait forever for a process that ran out of memory.

    Raises:
        UserError: If the function raised one.
        RuntimeError: If the process ended without a result; its own message is on the terminal.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compute, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} ended without a result, exit status {process.exitcode}") from None
    process.join()
    if isinstance(result, UserError):
        raise result
    return result


def _compute(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send(function(*arguments))
    except UserError as error:
        sender.send(error)


def peak_rss() -> int:
    """Return the most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
