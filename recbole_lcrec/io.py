"""Files written whole or not at all, and keys made of everything that goes into a cached result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` on success, remove it on failure.

    Two processes that write the same path both succeed: the last rename wins and each file is whole.

    Args:
        path: Where the finished file is to lie. Parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; results should be readable like any other
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it onto ``path`` on success, remove it on failure.

    A folder that is already at ``path`` is replaced.

    Args:
        path: Where the finished folder is to lie. Parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            doomed = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, doomed / path.name)
            shutil.rmtree(doomed, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
            tuples and dicts of them. Dicts are keyed by their sorted keys.

    Returns:
        The first 20 hexadecimal digits of a SHA-256.

    Raises:
        TypeError: For a value whose content cannot be named.
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
