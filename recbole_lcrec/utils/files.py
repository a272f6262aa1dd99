"""Files written whole or not at all, and keys made of everything that goes into a cached result.

Whole means whole on the disk: data are flushed before the rename that makes them visible, so that neither a kill nor a
power cut leaves a short file under its final name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.utils.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""Errors of file systems that do not support fsync, for folders or at all."""
_DENIED = (errno.EACCES, errno.EPERM)
_TORCH_WRITES = ("PytorchStreamWriter failed", "unexpected pos", "file write failed")


class StorageError(UserError):
    """Something cannot be written: the disk or the quota is full, or the file system refuses."""


def storage_problem(error: BaseException | None, numbers: tuple[int, ...] = _FULL) -> str | None:
    """Return the operating system's message if writing failed for lack of space or of a working disk, else None.

    Libraries wrap the error: those in Rust quote its number in their text, and torch only says that it failed.

    Args:
        error: The exception; its causes are examined too.
        numbers: Error numbers to look for.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in numbers:
            return os.strerror(error.errno)
        named = re.search(r"\(os error (\d+)\)", str(error))
        if named and int(named[1]) in numbers:
            return os.strerror(int(named[1]))
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _TORCH_WRITES):
            return "torch could not write all of it"
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def storing(path: str | Path, needs: int | None = None) -> Iterator[None]:
    """Turn a failure to write ``path`` into one clear message.

    Args:
        path: What is being written.
        needs: How many bytes it takes, if known.

    Raises:
        StorageError: If the disk is full or refuses.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = storage_problem(error, _FULL + _DENIED)
        if problem is None:
            raise
        size = f"; it needs about {needs / 1e6:.1f} MB" if needs else ""
        raise StorageError(
            f"{path}: cannot be written: {problem} ({_free(Path(path))}{size}). Make room or choose another place "
            "(output_dir, cache_dir), then run again; a training that had begun goes on with --resume. Nothing "
            "half-written was kept."
        ) from error


def _free(path: Path) -> str:
    while not path.exists() and path != path.parent:
        path = path.parent
    with suppress(OSError):
        return f"{shutil.disk_usage(path).free / 1e6:.1f} MB are free there"
    return "free space unknown"


def sync(path: Path) -> None:
    """Have the operating system write a file, or the names in a folder, to the disk now."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # some systems do not open folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it onto ``path`` on success, remove it on failure.

    Two processes that write the same path both succeed: the last rename wins and each file is whole.

    Args:
        path: Where the finished file goes. Parent folders are created.

    Raises:
        StorageError: If the disk is full or refuses.
    """
    path = Path(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = hidden_beside(path, path.suffix)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        mode = stat.S_IMODE(temporary.stat().st_mode)
        try:
            yield temporary
            _permit(temporary, mode)  # the user's umask; safetensors puts a private file in its place
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path, needs: int | None = None) -> Iterator[Path]:
    """Yield a new folder next to ``path``, to be renamed onto it; whatever remains of it at the end is removed.

    Args:
        path: Where the finished folder goes. Parent folders are created.
        needs: How many bytes it takes, for the message when there is no room.

    Raises:
        StorageError: If the disk is full or refuses.
    """
    with storing(path, needs):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = hidden_beside(path)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path, needs: int | None = None, *, keep_modes: bool = False) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``; rename it onto ``path`` on success, remove it on failure.

    A folder that is already at ``path`` is replaced. A kill between the two renames leaves the old one under a hidden
    name, from which :func:`mend` restores it.

    Args:
        path: Where the finished folder goes. Parent folders are created.
        needs: How many bytes it takes, for the message when there is no room.
        keep_modes: Whether to leave its files' permissions as they are; otherwise they follow the user's umask.

    Raises:
        StorageError: If the disk is full or refuses.
    """
    path = Path(path)
    with folder_beside(path, needs) as temporary:
        yield temporary
        settle(temporary, keep_modes=keep_modes)
        doomed: Path | None = None
        try:
            if path.exists():
                doomed = hidden_beside(path, ".old")
                doomed.mkdir()
                os.replace(path, doomed / path.name)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            if doomed is not None:
                if not path.exists():
                    os.replace(doomed / path.name, path)
                shutil.rmtree(doomed, ignore_errors=True)


def settle(folder: Path, *, keep_modes: bool = False) -> None:
    """Flush a folder and everything in it to the disk, with the permissions that the folder was made with."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    for part in (*sorted(folder.rglob("*")), folder):
        if not (keep_modes or part.is_symlink()):
            _permit(part, mode if part.is_dir() else mode & 0o666)  # safetensors makes its files private
        sync(part)


def _permit(path: Path, mode: int) -> None:
    """Give a file its permissions, where the file system has any (those of Windows and of memory cards have none)."""
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with suppress(PermissionError):
            path.chmod(mode)


def hidden_beside(path: Path, suffix: str = "") -> Path:
    """Return an unused name next to ``path`` that begins with a dot; see :func:`is_temporary`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


def is_temporary(name: str, of: str | None = None) -> bool:
    """Return whether a name is one that :func:`hidden_beside` gives, for a path named ``of`` or for any path."""
    return re.fullmatch(rf"\.{'.+' if of is None else re.escape(of)}\.[0-9a-f]{{8}}(\.\w+)?", name) is not None


def mend(path: Path) -> None:
    """Clean up after a process killed while writing ``path``: restore the old version, remove temporary ones.

    Only for paths that no other process can be writing.
    """
    rests = sorted(rest for rest in path.parent.iterdir() if is_temporary(rest.name, path.name))
    for rest in rests:
        if rest.suffix == ".old" and not path.exists() and (rest / path.name).exists():
            os.replace(rest / path.name, path)
    for rest in rests:
        remove(rest)


def remove(path: Path) -> None:
    """Remove a file, or a folder without ever leaving a part of it under its name; a missing path is fine."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    hidden = hidden_beside(path)
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fingerprint(*parts: Any) -> str:
    """Return a short hexadecimal key of ``parts``, equal on every machine and under every PYTHONHASHSEED.

    Args:
        parts: Strings, numbers, booleans, None, bytes, numpy arrays, frozen settings (dataclasses), and lists,
            tuples and dicts of them. The order of a dict's keys does not matter.

    Returns:
        The first 20 hexadecimal digits of a SHA-256.

    Raises:
        TypeError: For a value of any other type.
    """
    digest = hashlib.sha256()
    _update(digest, list(parts))
    return digest.hexdigest()[:20]


def _update(digest: Any, value: Any) -> None:
    if is_dataclass(value) and not isinstance(value, type):
        value = {"__class__": type(value).__name__, **asdict(value)}
    if isinstance(value, np.ndarray):
        digest.update(f"a{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        digest.update(b"b%d:" % len(value))
        digest.update(value)
    elif isinstance(value, dict):
        digest.update(b"d%d:" % len(value))
        for key in sorted(value, key=str):
            _update(digest, str(key))
            _update(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(b"l%d:" % len(value))
        for item in value:
            _update(digest, item)
    elif value is None or isinstance(value, (bool, int, float, str)):
        text = f"{type(value).__name__}:{value!r}".encode("utf-8", "surrogatepass")
        digest.update(b"v%d:" % len(text))
        digest.update(text)
    else:
        raise TypeError(f"cannot make a cache key of a {type(value).__name__}")
