"""The machines of a Ray cluster, and whether they see the same folders and files as this process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError

Machine = Mapping[str, Any]
"""What Ray knows about a node."""


def cause_of(error: BaseException) -> BaseException:
    """Return what was raised in a task of Ray, or the error itself if Ray has wrapped nothing."""
    return getattr(error, "cause", None) or error


def machines_for(ray: Any, cpus: float, gpus: float) -> list[Machine]:
    """Return the machines (nodes of Ray) that are large enough for a task.

    Args:
        ray: The module, connected.
        cpus: CPUs of the task.
        gpus: GPUs of the task.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in nodes if _room(node, "CPU") >= cpus and _room(node, "GPU") >= gpus]


def room_for(machines: Sequence[Machine], cpus: float, gpus: float) -> int:
    """Return how many tasks the machines can run at once if they have nothing else to do."""
    return sum(
        int(min(_room(machine, "CPU") / cpus, _room(machine, "GPU") / gpus if gpus else float("inf")))
        for machine in machines
    )


def _room(machine: Machine, resource: str) -> float:
    return float(machine["Resources"].get(resource, 0))


def name_of(machine: Machine) -> str:
    """Return a machine's name and address, for messages."""
    return f"{machine['NodeManagerHostname']} ({machine['NodeManagerAddress']})"


def on_machines(
    ray: Any, machines: Sequence[Machine], task: Callable[..., Any], *arguments: Any
) -> list[tuple[Machine, Any]]:
    """Return the machines with what a function returns there, without those that were lost in the meantime.

    Raises:
        UserError: If it cannot be called on one, for example because this package is not installed there.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(task)
    there = [NodeAffinitySchedulingStrategy(node_id=machine["NodeID"], soft=False) for machine in machines]
    answers = [remote.options(num_cpus=0, max_retries=0, scheduling_strategy=one).remote(*arguments) for one in there]
    found = []
    for machine, answer in zip(machines, answers, strict=True):
        try:
            found.append((machine, ray.get(answer)))
        except ray.exceptions.RayError as error:
            if machine["NodeID"] not in [node["NodeID"] for node in ray.nodes() if node["Alive"]]:
                continue
            reason = str(cause_of(error)).strip().splitlines()[-1]
            raise UserError(
                f"machine {name_of(machine)} of the cluster cannot take part: {reason}. All machines need the same "
                "environment: Python, Ray and this package."
            ) from error
    return found


def check_seen(
    ray: Any, machines: Sequence[Machine], folders: Mapping[str, Path], files: Mapping[str, Sequence[Path]]
) -> None:
    """Refuse machines that do not see what their tasks need.

    A folder of the same name is not enough: a file that was just put there must be visible too. A folder that does not
    exist yet is judged by its nearest existing parent. Files that are only read must have the same sizes as here.

    Args:
        ray: The module, connected.
        machines: The machines to ask.
        folders: Name of a folder in messages -> the folder, which tasks write to.
        files: Name of files in messages -> the files, which tasks read.

    Raises:
        UserError: Naming the machines and folders; or a folder that this process cannot write to.
    """
    with _signs(folders) as signs:
        wanted = {name: {str(sign): 0} for name, sign in signs.items()}
        wanted |= {name: {str(path): path.stat().st_size for path in paths} for name, paths in files.items()}
        answers = on_machines(ray, machines, _problems, wanted, list(folders))
    listed = [f"\n  {name_of(machine)} {problem}" for machine, problems in answers for problem in problems]
    if listed:
        raise UserError(
            f"not every machine of the cluster sees what it needs:{''.join(listed)}\nKeep these on storage that all "
            "machines share, under the same path and open to the user who started Ray there."
        )


@contextmanager
def _signs(folders: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """While the block runs, keep an empty file with a unique name in every folder."""
    signs: dict[str, Path] = {}
    try:
        for name, folder in folders.items():
            nearest = next(path for path in (folder, *folder.parents) if path.exists())
            try:
                handle, sign = tempfile.mkstemp(dir=nearest, prefix=".seen.")
            except OSError as error:
                raise UserError(f"{name}: cannot be written to ({error.strerror}). Choose another.") from error
            os.close(handle)
            signs[name] = Path(sign)
        yield signs
    finally:
        for path in signs.values():
            path.unlink(missing_ok=True)


def _problems(wanted: Mapping[str, Mapping[str, int]], written: Sequence[str]) -> list[str]:
    """Return what this machine does not see (files with their sizes in bytes) or cannot write to, in words."""

    def there(path: str, size: int) -> bool:
        try:
            return os.stat(path).st_size == size
        except OSError:
            return False

    problems = []
    for name, files in wanted.items():
        if not all(there(*one) for one in files.items()):
            problems.append(f"does not see {name}")
        elif name in written and not os.access(os.path.dirname(next(iter(files))), os.W_OK):
            problems.append(f"cannot write to {name}")
    return problems
