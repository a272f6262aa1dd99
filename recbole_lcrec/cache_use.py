"""Which entries of the caches were used, for those who have to send them to other machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_recording: list[list[Path]] = []


def used(path: Path) -> Path:
    """Note that an entry is read or about to be written, and return it."""
    for paths in _recording:
        if path not in paths:
            paths.append(path)
    return path


@contextmanager
def recorded() -> Iterator[list[Path]]:
    """Yield a list that gets the files and folders that are used while the block runs."""
    paths: list[Path] = []
    _recording.append(paths)
    try:
        yield paths
    finally:
        _recording.pop()
