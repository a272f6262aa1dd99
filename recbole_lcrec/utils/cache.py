"""Results that are costly to compute, kept in folders named after all that they were made of.

An entry is a folder with a manifest. It is added by one rename and never replaced: of two processes that make the same
entry, the second takes what the first has added, so a reader never finds half an entry or a changed one.
An entry whose files have changed is removed and made anew. The cache may be deleted at any time: what a run has
computed it does not read again.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from recbole_lcrec.utils.files import StorageError, folder_beside, remove, settle, storage_problem, sync
from recbole_lcrec.utils.integrity import damage, files_below, write_manifest

logger = logging.getLogger(__name__)

T = TypeVar("T")
_ABANDONED_SECONDS = 24 * 3600.0
"""Writing an entry never takes this long: anything older was left by a process that was killed."""


def cached(
    entry: Path,
    *,
    load: Callable[[Path], T],
    build: Callable[[], T],
    save: Callable[[T, Path], None],
    what: str,
) -> tuple[T, bool]:
    """Return a result from the cache, or compute it and keep it.

    Args:
        entry: The entry's folder, ``<cache_dir>/<kind>/<key>``; the key names all that the result depends on.
        load: Reads the result from an entry whose files are as they were written; if it raises, the entry is remade.
        build: Computes the result.
        save: Writes the result's files into an empty folder.
        what: The result in the plural, for messages: "embeddings".

    Returns:
        The result, and whether it came from the cache.

    Raises:
        StorageError: If the entry cannot be written for want of room or of permission.
    """
    found = _found(entry, load, what)
    if found is not None:
        return found[0], True
    missing = [folder for folder in entry.parents if not folder.exists()]
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # the cache is being deleted
        pass
    except OSError as error:  # reported before the work: a file in the folder's place, no permission
        raise StorageError(
            f"{entry.parent}: cannot be made ({error.strerror}). Set cache_dir to a folder that can be written to."
        ) from error
    try:
        result = build()
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # others' entries are in it, or it is not there any more
                folder.rmdir()
        raise
    try:
        with folder_beside(entry) as temporary:
            save(result, temporary)
            write_manifest(temporary)
            settle(temporary)
            os.rename(temporary, entry)
            sync(entry.parent)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            first = _found(entry, load, what)  # another process was faster
            return (result, False) if first is None else (first[0], True)
        if storage_problem(error, (errno.ENOENT,)) is None:
            raise
        logger.warning("%s was removed while the %s were written to it; they are not kept.", entry.parent, what)
    _sweep(entry.parent)
    return result, False


def _found(entry: Path, load: Callable[[Path], T], what: str) -> tuple[T] | None:
    """Return the result of an entry; None if there is no entry, or after removing one that has changed."""
    if not entry.exists():
        return None
    problem = damage(entry, required=files_below(entry)) if entry.is_dir() else "a file"
    if problem is None:
        try:
            return (load(entry),)
        except Exception as error:  # whatever is wrong with an entry, the remedy is the same
            problem = str(error) or type(error).__name__
    if entry.exists():  # it may just have been deleted
        logger.warning("%s is damaged (%s); the %s are made anew.", entry, problem, what)
        remove(entry)
    return None


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing."""
    for rest in folder.glob(".*"):
        try:
            if time.time() - rest.stat().st_mtime > _ABANDONED_SECONDS:
                remove(rest)
        except OSError:  # another process was faster
            continue
