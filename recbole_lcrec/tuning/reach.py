"""What the machines of a cluster have to reach: checked on each of them before the first trial."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.named_files import named_file
from recbole_lcrec.distributed.machines import machines_for, name_of, on_machines
from recbole_lcrec.tuning.storage import Storage
from recbole_lcrec.utils.errors import UserError, reason_of

_SIGN = ".reach-"


@dataclass(frozen=True)
class Wanted:
    """A file that trials read: the option that names it, and its size, as a file of the same name is not enough."""

    option: str
    path: str
    size: int


def files_of(options: Iterable[str], values: Iterable[Mapping[str, Any]], dataset: str) -> list[Wanted]:
    """Return the files that options name.

    Args:
        options: The options that trials depend on; those that name no files are skipped.
        values: Their values, in every combination that matters: absolute paths, with ``data_path`` the folder of all
            data sets.
        dataset: Name of the data set.
    """
    found: dict[Wanted, None] = {}
    for name in sorted(set(options)):
        for value in {str(given[name]) for given in values if given.get(name)}:
            if name == "data_path":
                folder = Path(value) / dataset
                paths = [path for path in sorted(folder.glob(f"{dataset}.*")) if path.suffix not in (".zip", ".gz")]
            else:
                named = named_file(name, value)
                paths = [] if named is None else [named] if named.is_file() else sorted(named.rglob("*"))
            found |= dict.fromkeys(Wanted(name, str(path), path.stat().st_size) for path in paths if path.is_file())
    return list(found)


def check_reach(ray: Any, storage: Storage, wanted: Iterable[Wanted], cache_dir: Path | None, why: str) -> None:
    """Refuse machines that cannot do the trials' work.

    Args:
        ray: The module, connected.
        storage: Where results go.
        wanted: Files that trials read.
        cache_dir: Option ``cache_dir``, if trials use the cache.
        why: Why trials need files, for the message.

    Raises:
        UserError: Naming every machine with what it cannot reach.
    """
    here = "output_dir" if storage.is_direct else "storage_path"
    complaint = _storage_complaint(storage.where)
    if complaint:
        raise UserError(f"option {here}: {complaint}. Choose a folder or URI that this machine can write to.")
    with _sign(storage.where) as sign, _folder_sign(cache_dir) as cached:
        files = [*wanted, *([Wanted("cache_dir", str(cached), 0)] if cached else [])]
        answers = on_machines(ray, machines_for(ray, 0, 0), _complaints, here, storage.where, sign, files)
    lines = [f"\n  {name_of(machine)}: {line}" for machine, found in answers for line in found]
    if not lines:
        return
    advice = "Put them on storage that all machines see, under the same path, or leave these machines out."
    if any(line.partition(": ")[2].startswith(here) for line in lines):
        advice = "Give a storage_path that all machines reach: a folder, or a URI such as s3://bucket/folder."
    raise UserError(f"machines of the cluster cannot reach what trials need{why}:{''.join(lines)}\n{advice}")


def _complaints(option: str, where: str, sign: str, wanted: list[Wanted]) -> list[str]:
    """Return what this machine cannot reach, one line per option and folder."""
    lines = []
    complaint = _storage_complaint(where, sign)
    if complaint:
        lines.append(f"{option}: {where} ({complaint})")
    missing = [one for one in wanted if not _is_there(one)]
    for name in dict.fromkeys(one.option for one in missing):
        paths = [one.path for one in missing if one.option == name]
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        lines.append(f"{name}: {Path(paths[0]).parent if name == 'cache_dir' else paths[0]}{more}")
    return lines


def _is_there(wanted: Wanted) -> bool:
    try:
        return os.stat(wanted.path).st_size == wanted.size
    except OSError:
        return False


def _storage_complaint(where: str, sign: str | None = None) -> str | None:
    """Return why this machine cannot use the storage: a file of the search is not there, or none can be written."""
    from pyarrow.fs import FileSystem, FileType

    try:
        filesystem, root = FileSystem.from_uri(where)
        if sign and filesystem.get_file_info(f"{root}/{sign}").type != FileType.File:
            return "another folder of that name, or none"
        own = f"{root}/{_SIGN}{os.urandom(6).hex()}"
        if not sign:
            filesystem.create_dir(root, recursive=True)
        filesystem.open_output_stream(own).close()
        filesystem.delete_file(own)
    except Exception as error:  # noqa: BLE001 (every file system has errors of its own)
        return reason_of(error)
    return None


@contextmanager
def _sign(where: str) -> Iterator[str]:
    """Keep an empty file in the storage while the block runs; yield its name."""
    from pyarrow.fs import FileSystem

    filesystem, root = FileSystem.from_uri(where)
    name = f"{_SIGN}{os.urandom(6).hex()}"
    filesystem.open_output_stream(f"{root}/{name}").close()
    try:
        yield name
    finally:
        filesystem.delete_file(f"{root}/{name}")


@contextmanager
def _folder_sign(folder: Path | None) -> Iterator[Path | None]:
    """Keep an empty file in a folder while the block runs; yield its path."""
    if folder is None:
        yield None
        return
    handle, name = tempfile.mkstemp(dir=folder, prefix=_SIGN)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
