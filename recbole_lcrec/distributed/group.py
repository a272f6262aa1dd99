"""The group of processes that share a run, and this process's place in it; alone, everything here does nothing.

A run is one program that every process executes: each reads the options, builds data and model, trains and evaluates.
What only one may do (writing files, logging, filling caches) is done by rank 0, and what must not differ (the folder's
name, metrics, the epoch to stop at) is decided by rank 0. Metrics, signals and random states travel as small objects
through gloo, on every device; only gradients and weights on a GPU go through NCCL.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from recbole_lcrec.utils.errors import UserError

TIMEOUT = timedelta(hours=2)
"""Longest wait for other processes within a collective step, such as for the slowest share of an evaluation."""

_POLL = 0.05
_FAILED, _STATUS = "failed", "status"
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """The place of a process among those that share a run.

    Attributes:
        rank: Its number, 0 to ``world_size - 1``.
        local_rank: Its number on its machine.
        world_size: Number of processes on all machines.
        local_size: Number of processes on its machine.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_size: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size and 0 <= self.local_rank < self.local_size <= self.world_size


class Abandoned(BaseException):
    """Another process of the run has failed and said why. Not an Exception, so that nothing treats it as a failure."""


class _Group:
    """What this process knows about its group."""

    place = Place()
    store: Any = None
    turns = 0  # of ``main_first`` so far
    has_begun = False  # and with it gloo's threads, which outlive the group


_group = _Group()


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return the place that torchrun or our own launcher has given this process; None without one.

    Raises:
        UserError: If the numbers make no sense.
    """
    if not all(name in environment for name in _ENVIRONMENT) or environment["WORLD_SIZE"] == "1":
        return None
    try:
        rank, size, local = (int(environment[name]) for name in _ENVIRONMENT[:3])
        return Place(rank, local, size, int(environment.get("LOCAL_WORLD_SIZE", size)))
    except (ValueError, AssertionError) as error:
        found = ", ".join(f"{name}={environment[name]}" for name in _ENVIRONMENT)
        raise UserError(f"the environment: {found} is not a place in a group of processes. Use torchrun.") from error


@contextmanager
def joined(mine: Place | None) -> Iterator[None]:
    """Be part of the group while the block runs; without a place, be alone.

    Raises:
        UserError: If the others cannot be reached.
    """
    if mine is None:
        yield
        return
    import torch
    from torch import distributed

    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=timedelta(minutes=10)))
    except (RuntimeError, ValueError) as error:  # DistNetworkError, DistStoreError among them
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(f"{where}: the processes cannot connect there ({error}). Check --ip and --port.") from error
    _group.place, _group.store, _group.turns = mine, distributed.PrefixStore("lcrec", store), 0
    both = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if both else "gloo",
        store=distributed.PrefixStore("group", store),
        rank=mine.rank,
        world_size=mine.world_size,
        timeout=TIMEOUT,
    )
    _group.has_begun = True
    _end_with_parent()
    yield
    # not after a failure: ending a group waits for others, who may be gone
    barrier()
    distributed.destroy_process_group()
    _group.place, _group.store = Place(), None


def _end_with_parent() -> None:
    """Let the system end this process when its launcher is killed, so that no process is left behind (Linux only)."""
    import signal

    from torch import multiprocessing

    if hasattr(multiprocessing, "_prctl_pr_set_pdeathsig"):  # what torch's own spawn uses
        multiprocessing._prctl_pr_set_pdeathsig(signal.SIGTERM)


def end_process(status: int) -> NoReturn:
    """End this process; one that was in a group ends without taking the interpreter down.

    Gloo's threads live on after the group. One that releases a tensor while the interpreter is being taken down asks
    for its lock, is ended instead, and takes the process along by SIGABRT (pytorch issue 190489).

    Args:
        status: The exit status.
    """
    if _group.has_begun:
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def place() -> Place:
    """Return this process's place."""
    return _group.place


def is_main() -> bool:
    """Return whether this process is the one that logs and writes."""
    return _group.place.rank == 0


def several() -> bool:
    """Return whether there are other processes."""
    return _group.place.world_size > 1


# ---- communication between the processes; all of them must call these, in the same order -------------------------


def barrier() -> None:
    """Wait until every process is here."""
    if several():
        from torch import distributed

        distributed.all_reduce(_vector([0.0]))  # a barrier would choose the GPU's backend


def from_main(value: Any) -> Any:
    """Return rank 0's ``value``."""
    if not several():
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def gathered(value: Any) -> list[Any] | None:
    """Return the ``value`` of every process in order of rank, in rank 0 only; None in the others."""
    if not several():
        return [value]
    from torch import distributed

    values = [None] * place().world_size if is_main() else None
    distributed.gather_object(value, values, dst=0)
    return values


def summed(values: list[float]) -> list[float]:
    """Return the sums of the processes' numbers, position by position, in float64."""
    if not several():
        return values
    from torch import distributed

    vector = _vector(values)
    distributed.all_reduce(vector)
    return vector.tolist()


def _vector(values: list[float]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def agreed(what: str, value: Any) -> None:
    """Make sure that all processes have the same ``value``.

    Raises:
        UserError: If they do not.
    """
    values = gathered(value)
    wrong = [rank for rank, other in enumerate(values or []) if other != value]
    if from_main(bool(wrong)):
        raise UserError(
            f"{what} of process {wrong[0] if wrong else '?'} differ from those of process 0. All machines need the "
            "same files (data_path, cache_dir, output_dir on a shared file system) and the same packages."
        )


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in rank 0 and then in the others: what rank 0 puts into a cache is there when they look.

    Raises:
        Abandoned: If rank 0 failed at it.
    """
    if not several():
        yield
        return
    _group.turns += 1
    key = f"turn {_group.turns}"
    if not is_main():
        _wait_for(key)
    yield
    if is_main():
        _group.store.set(key, "over")


def _wait_for(key: str) -> None:
    """Wait without a limit, but responsive to signals: rank 0 may be building an index for hours."""
    while not _group.store.check([key]):
        if _group.store.check([_FAILED]):
            raise Abandoned
        time.sleep(_POLL)


# ---- failures ----------------------------------------------------------------------------------------------------


def may_report(status: int) -> bool:
    """Return whether this process, as the first that fails, is the one to report why the run failed.

    Args:
        status: The exit status that the failure leads to.
    """
    if not several():  # or before the group was joined, with a command line that was wrong for all of them
        return os.environ.get("RANK", "0") == "0" or place_of(os.environ) is None
    try:
        first = _group.store.add(_FAILED, 1) == 1
        if first:
            _group.store.set(_STATUS, str(status))
        return bool(first)
    except RuntimeError:  # the launcher is gone, and with it the store
        return is_main()


def has_failed() -> bool:
    """Return whether some process has reported a failure."""
    try:
        return several() and bool(_group.store.check([_FAILED]))
    except RuntimeError:
        return False


def status_in(store: Any) -> int | None:
    """Return the exit status of the first failure, for the launcher that holds the store; None without one."""
    from torch import distributed

    inner = distributed.PrefixStore("lcrec", store)
    return int(inner.get(_STATUS)) if inner.check([_STATUS]) else None


def wants_fsdp(config: Any) -> bool:
    """Return whether to shard the run's model (``parallel=fsdp``); a single process holds it whole."""
    return several() and config["parallel"] == "fsdp"
