"""For clusters without shared storage: what trials write, brought to the search's output folder.

An actor on the search's machine is the only one that writes there. A trial hands over what changed before it reports a
validation, so that whatever the search knows of lies in its output folder, as it does with shared storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.io import atomic_folder, atomic_path, remove
from recbole_lcrec.tuning.machines import node_that_sees
from recbole_lcrec.tuning.shipping import Parcel, files_below, packed, unpack


class Depot:
    """Writes into the output folder, and hands out what lies there; runs as an actor of Ray.

    Args:
        folder: The search's output folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def put(self, name: str, parcels: Sequence[Parcel]) -> None:
        """Write a file (one parcel without a name) or a folder, whole or not at all.

        Raises:
            StorageError: If the disk is full.
        """
        import ray

        target = self._inside(name)
        if [parcel.name for parcel in parcels] == [""]:
            with atomic_path(target) as temporary:
                unpack(ray, [Parcel(temporary.name, parcels[0].sha256, parcels[0].chunks)], temporary.parent)
        else:
            with atomic_folder(target) as temporary:
                unpack(ray, parcels, temporary)

    def get(self, name: str) -> list[Parcel]:
        """Return the files of a folder, or a file as one parcel without a name; nothing if it is not there."""
        import ray

        source = self._inside(name)
        if source.is_file():
            return [packed(ray, "", source)]
        return [packed(ray, str(path.relative_to(source)), path) for path in files_below(source)]

    def remove(self, name: str) -> None:
        """Remove a file or folder."""
        remove(self._inside(name))

    def _inside(self, name: str) -> Path:
        path = self._folder / name
        assert path.resolve().is_relative_to(self._folder.resolve()) and path != self._folder
        return path


def start_depot(ray: Any, folder: Path) -> Any:
    """Start the actor where the output folder is.

    Args:
        ray: The module, connected.
        folder: The search's output folder.

    Raises:
        UserError: If no machine of the cluster sees it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=node_that_sees(ray, folder), soft=False)
    actor = ray.remote(Depot).options(num_cpus=0, max_restarts=-1, max_task_retries=3, scheduling_strategy=here)
    return actor.remote(str(folder))


class Delivery:
    """A trial's side of the depot.

    Args:
        depot: The actor.
        folder: What stands for the search's output folder on this machine.
    """

    def __init__(self, depot: Any, folder: Path) -> None:
        self._depot, self._folder = depot, folder
        self._sent: dict[str, Any] = {}

    def send(self, name: str, content: bytes | None = None) -> None:
        """Hand over a file or folder, unless it has not changed since.

        Args:
            name: Relative to the output folder.
            content: What to send in place of a file's content.

        Raises:
            StorageError: If the search's disk is full.
        """
        import ray

        path = self._folder / name
        files = files_below(path)
        state = [(str(file), file.stat().st_mtime_ns, file.stat().st_size, file.stat().st_ino) for file in files]
        if not files or self._sent.get(name) == state:
            return
        parcels = [packed(ray, "" if file == path else str(file.relative_to(path)), file, content) for file in files]
        self._do("put", name, parcels)
        self._sent[name] = state

    def fetch(self, name: str) -> Path:
        """Bring a file or folder here, in place of what is here; return its path, where nothing may be."""
        import ray

        path, parcels = self._folder / name, self._do("get", name)
        if path.exists():
            remove(path)
        if [parcel.name for parcel in parcels] == [""]:
            unpack(ray, [Parcel(path.name, parcels[0].sha256, parcels[0].chunks)], path.parent)
        else:
            unpack(ray, parcels, path)
        return path

    def forget(self, name: str) -> None:
        """Remove a file or folder here and in the output folder."""
        self._do("remove", name)
        remove(self._folder / name)
        self._sent = {known: state for known, state in self._sent.items() if not known.startswith(name)}

    def _do(self, what: str, *arguments: Any) -> Any:
        import ray
        from ray.exceptions import RayTaskError

        try:
            return ray.get(getattr(self._depot, what).remote(*arguments))
        except RayTaskError as error:
            raise error.cause from None
