"""The machines of a cluster: whether they see the search's folders, and what is left on them."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.errors import UserError
from recbole_lcrec.parallel.cluster import ray_session
from recbole_lcrec.tuning.settings import SearchSettings

logger = logging.getLogger(__name__)


def on_every_machine(ray: Any, task: Callable[..., Any], *arguments: Any) -> list[tuple[dict[str, Any], Any]]:
    """Return what Ray knows of every machine (node of Ray) with what a function returns there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = [NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False) for node in nodes]
    remote = ray.remote(task)
    answers = ray.get([remote.options(num_cpus=0, scheduling_strategy=one).remote(*arguments) for one in there])
    return list(zip(nodes, answers, strict=True))


def unseen(ray: Any, folders: Mapping[str, Path], files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return which machines do not see which folders, one line each.

    A folder of the same name is not enough: a file that was put there just now has to be there, or where nothing is
    written, files with the sizes that they have here.

    Args:
        ray: The module, connected.
        folders: Option -> a folder that trials write to.
        files: Option -> files that trials read.
    """
    with _signs(folders.values()) as signs:
        wanted = {
            **{name: {str(sign): 0} for name, sign in zip(folders, signs, strict=True)},
            **{name: {str(path): path.stat().st_size for path in paths} for name, paths in files.items()},
        }
        lines = []
        for node, names in on_every_machine(ray, _missing, wanted):
            lines += [
                f"{node['NodeManagerAddress']}: {name}={folders.get(name) or files[name][0].parent}" for name in names
            ]
    return lines


def node_that_sees(ray: Any, folder: Path) -> str:
    """Return the id of a node whose processes see a folder of this process: that of this machine, as a rule.

    Raises:
        UserError: If there is none, as when the search itself is started outside the cluster.
    """
    with _signs([folder]) as (sign,):
        answers = on_every_machine(ray, _missing, {"": {str(sign): 0}})
    nodes = [node["NodeID"] for node, missing in answers if not missing]
    own = ray.get_runtime_context().get_node_id()
    if not nodes:
        raise UserError(
            f"no machine of the cluster sees output_dir={folder}, so results cannot be brought there. Start the "
            "search on a machine where ray start ran, as the same user."
        )
    return own if own in nodes else str(nodes[0])


@contextmanager
def _signs(folders: Any) -> Iterator[list[Path]]:
    """Put an empty file with a name of its own into every folder for a while."""
    signs = []
    try:
        for folder in folders:
            handle, name = tempfile.mkstemp(dir=folder, prefix=".seen.")
            os.close(handle)
            signs.append(Path(name))
        yield signs
    finally:
        for sign in signs:
            sign.unlink(missing_ok=True)


def _missing(wanted: dict[str, dict[str, int]]) -> list[str]:
    def there(path: str, size: int) -> bool:
        try:
            return os.stat(path).st_size == size
        except OSError:
            return False

    return [name for name, files in wanted.items() if not all(there(*one) for one in files.items())]


def has_to_ship(ray: Any, settings: SearchSettings, folders: Mapping[str, Path], files: Mapping[str, Any]) -> bool:
    """Return whether trials need the data sent to them (option ``ship_data``); say so in the log.

    Raises:
        UserError: If they do, and ``ship_data`` is False.
    """
    if not settings.address:
        return False
    if settings.ship_data:
        logger.info("ship_data: trials get their data through Ray and send back what they write.")
        return True
    problems = unseen(ray, folders, files)
    if not problems:
        return False
    listed = "".join(f"\n  {line}" for line in problems)
    if settings.ship_data is False:
        raise UserError(
            f"machines of the cluster do not see folders that their trials need:{listed}\nPut them on storage that "
            "all machines share, under the same path (data_path, cache_dir, output_dir), or leave ship_data out."
        )
    logger.info(
        "Machines of the cluster do not see folders of the search, so trials get their data through Ray and send back "
        "what they write (ship_data):%s", listed,
    )  # fmt: skip
    return True


def sweep(settings: SearchSettings, names: Sequence[str]) -> None:
    """Remove folders from the temporary folders of all machines, once the processes of the search are gone.

    Args:
        settings: Options of the search.
        names: Of the folders.
    """
    try:
        with ray_session(settings, Path(), 0) as ray:
            answers = on_every_machine(ray, _removed, list(names))
            left = [node["NodeManagerAddress"] for node, gone in answers if not gone]
    except Exception as error:  # noqa: BLE001 (the search is over, and its results are written)
        logger.warning("Temporary folders on the machines (%s) are left: %s", ", ".join(names), error)
        return
    for address in left:
        logger.warning("%s: the temporary folder of the search (%s) could not be removed.", address, ", ".join(names))


def _removed(names: list[str]) -> bool:
    folders = [Path(tempfile.gettempdir()) / name for name in names] + [Path("/tmp") / name for name in names]
    for _ in range(50):  # a trial that is just being ended may still be writing
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.exists() for folder in folders):
            return True
        time.sleep(0.1)
    return False
