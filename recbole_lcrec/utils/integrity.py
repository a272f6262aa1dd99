"""Whether files are as they were written: ``manifest.json`` has the size and the SHA-256 of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def facts_of(path: Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def facts_of_all(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the facts of files below a folder, by their path relative to it."""
    return {name: facts_of(folder / name) for name in sorted(names)}


def files_below(folder: Path) -> list[str]:
    """Return the sorted paths of all files below a folder, relative to it and without manifests."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return sorted(str(path.relative_to(folder)) for path in files)


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the manifest of a folder that no one reads yet, of the files ``names`` or of all files in it."""
    facts = facts_of_all(folder, files_below(folder) if names is None else names)
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def damage(folder: Path, required: Iterable[str] = ()) -> str | None:
    """Return what is wrong with a folder's files, in a few words; None if they are as they were written.

    Args:
        folder: A folder with a manifest.
        required: Files that the manifest must name.
    """
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in (*required, *expected):
            if problem := difference(folder / name, expected[name], name):
                return problem
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except KeyError as error:
        return f"{MANIFEST} does not name {error}"
    except (OSError, ValueError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def difference(path: Path, expected: dict[str, Any], name: str) -> str | None:
    """Return how a file differs from what was written, in a few words; None if it does not.

    Raises:
        OSError: If it cannot be read.
        KeyError: If ``expected`` is not what :func:`facts_of` returns; likewise TypeError.
    """
    found = facts_of(path)
    if found["bytes"] != expected["bytes"]:
        return f"{name} has {found['bytes']} of {expected['bytes']} bytes"
    return None if found["sha256"] == expected["sha256"] else f"{name} differs from what was written"
