"""Which files of an output folder a run wrote: only those are ever replaced, and changed ones are refused.

A run's ``manifest.json`` records this: ``written`` names what may be removed when another run takes the folder,
``files`` has the size and SHA-256 of what a saved run is loaded from, except its checkpoint, which has a manifest of
its own. It is a run's first file, so that a killed run can be told from a folder of the user's own files.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import fingerprint, is_temporary, remove, write_json
from recbole_lcrec.utils.integrity import MANIFEST, difference, facts_of_all
from recbole_lcrec.utils.locks import LOCK
from recbole_lcrec.utils.run_files import ASSETS, CHECKPOINT, CONFIG, LOG, OF_A_RUN, RESUME, STARTING, WANDB
from recbole_lcrec.version import __version__

logger = logging.getLogger(__name__)

_WRITER = "recbole_lcrec"
_NAMES = frozenset({*OF_A_RUN, LOG, STARTING})


def claim(folder: Path) -> bool:
    """Take an existing folder for a run; return whether it was empty and so holds only a manifest now.

    Raises:
        UserError: As :func:`check_free` does.
    """
    if check_free(folder):
        _write(folder, {}, ())
        return True
    return False


def check_free(folder: Path) -> bool:
    """Return whether a folder is empty; if it is not, an earlier run must have written what is in it.

    Raises:
        UserError: If it holds files that no run wrote, and a run would overwrite them or lie among them.
    """
    record = _read(folder)
    if record is None:
        check_empty(folder, "run")
        return True
    written = record["written"]
    strangers = [
        name
        for name in _present(folder)
        if not _covered(name, written) or ((folder / name).is_symlink() and not name.startswith(f"{WANDB}/"))
    ]  # wandb links its run to a log of its own
    if strangers:
        raise UserError(
            f"output_dir={folder}: a run would replace {strangers[0]}, which no run wrote. Move it away, or choose "
            "another output_dir."
        )
    return False


def check_empty(folder: Path, work: str, own: Collection[str] = ()) -> None:
    """Refuse a folder with files in it, other than locks and temporary files.

    Args:
        folder: An output folder, which need not exist yet.
        work: What else may have written into it, for the message: "run".
        own: Names of files to ignore.

    Raises:
        UserError: Naming some of the files.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    others = [name for name in names if name not in (LOCK, *own) and not is_temporary(name)]
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        raise UserError(
            f"output_dir={folder}: it holds files that no {work} of this version wrote ({shown}). Choose an empty "
            "folder or a new one."
        )


def unclaim(folder: Path) -> None:
    """Remove the manifest of a run that has written nothing."""
    (folder / MANIFEST).unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote, except its log; from now on, all run files here belong to this run."""
    record = _read(folder) or {"written": ()}
    for name in sorted(record["written"]):
        if name != LOG and _is_ours(folder, name):
            remove(folder / name)
            _remove_empty(folder, (folder / name).parent)
    _write(folder, {}, [*OF_A_RUN, LOG])


def seal(folder: Path) -> None:
    """Record the files that a saved run is loaded from, as they are now."""
    record = _read(folder) or {"written": []}
    _write(folder, facts_of_all(folder, _files(folder, ASSETS)), record["written"])


def note_all(folder: Path) -> None:
    """Record exactly which files a finished run wrote: files added later are not the run's."""
    if record := _read(folder):
        _write(folder, record["files"], [name for name in _present(folder) if name != STARTING])


def note(folder: Path, names: Iterable[str], *, new: bool) -> None:
    """Record further files that were written into a run's folder, or into a ``new`` one."""
    record = _read(folder) or ({"files": {}, "written": ()} if new else None)
    if record is not None:
        _write(folder, record["files"], {*record["written"], *names})


def check_assets(folder: Path) -> None:
    """Refuse a saved run whose files are not as they were written.

    Raises:
        UserError: Naming the first such file.
    """
    record = _read(folder)
    if record is None:
        logger.warning(
            "%s has no %s, so it is not known whether its files are as the run wrote them.", folder, MANIFEST
        )
        return
    if CONFIG not in record["files"]:
        raise UserError(f"{folder / MANIFEST}: {CONFIG} is missing from it. Train the run again.")
    for name, expected in record["files"].items():
        try:
            whole = _is_ours(folder, name) and (folder / name).is_file()
            problem = difference(folder / name, expected, name) if whole else f"{name} is missing"
        except (OSError, KeyError, TypeError) as error:
            problem = f"{name} cannot be checked ({type(error).__name__}: {error})"
        if problem is not None:
            remedy = "Options of a saved run are changed on the command line; b" if name == CONFIG else "B"
            raise UserError(
                f"{folder / name}: the saved run has changed ({problem}). {remedy}ring back the file as the run "
                "wrote it, or train the run again."
            )


def seal_of(folder: Path) -> str:
    """Return a fingerprint of what a saved run is loaded from: its files as they were sealed, and its checkpoint."""
    checkpoint = folder / CHECKPOINT / MANIFEST
    record = _read(folder) or {"files": {}}
    return fingerprint(record["files"], checkpoint.read_bytes() if checkpoint.is_file() else b"")


def holds_training(folder: Path) -> bool:
    """Return whether a run has trained in the folder, finished or not."""
    return (folder / CHECKPOINT).is_dir() or any((folder / RESUME).glob("step-*"))


def _read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a run; None if there is none, or if a file of that name is not a run's."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, written = record["files"], record["written"]
        if not record[_WRITER] or not isinstance(files, dict) or not all(isinstance(name, str) for name in written):
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {"files": files, "written": written}


def _write(folder: Path, files: Mapping[str, Any], written: Iterable[str]) -> None:
    write_json(folder / MANIFEST, {_WRITER: __version__, "files": dict(files), "written": sorted(written)})


def _is_ours(folder: Path, name: str) -> bool:
    """Return whether a manifest may name this: a file of a run, within the folder and not behind a link."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and _is_run_name(path.parts[0] if path.parts else "")
    return inside and not (folder / path.parts[0]).is_symlink()


def _is_run_name(name: str) -> bool:
    return name in _NAMES or name.endswith(".pth")  # RecBole's pre-trained models


def _covered(name: str, written: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}/") for one in (*written, STARTING))


def _present(folder: Path) -> list[str]:
    """Return the files with a run's names, by their path in the folder; links and empty folders count as files."""
    return list(_files(folder, sorted(name for name in os.listdir(folder) if _is_run_name(name)), empty=True))


def _files(folder: Path, names: Iterable[str], *, empty: bool = False) -> Iterator[str]:
    """Yield the files with these names or below them; with ``empty``, also the empty folders."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            parts = [f"{name}/{part}" for part in sorted(os.listdir(path))]
            if empty and not parts:
                yield name
            yield from _files(folder, parts, empty=empty)
        elif os.path.lexists(path):
            yield name


def _remove_empty(folder: Path, inner: Path) -> None:
    while inner != folder:
        try:
            inner.rmdir()
        except OSError:  # not empty, or gone
            return
        inner = inner.parent
