"""Whether a data set's files are those that several runs began with, which are compared or searched among."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.integrity import facts_of_all

_READ = (".inter", ".item", ".user", ".kg", ".link", ".net", ".review", ".user.json")


def contents(folder: Path, name: str) -> dict[str, Any]:
    """Return file name -> size and SHA-256 of the files that runs on a data set may read; {} before there are any."""
    names = [path.name for path in folder.glob(f"{name}.*") if path.is_file() and path.name.endswith(_READ)]
    return facts_of_all(folder, names)


def check_same_contents(before: Mapping[str, Any], now: Mapping[str, Any], where: Path, work: str) -> None:
    """Refuse to continue with other data: the split alone does not show it, as it ignores texts and features.

    Args:
        before: What ``contents`` returned when the work began.
        now: What it returns now.
        where: The work's output folder, for the message.
        work: What would continue: "search".

    Raises:
        UserError: Naming the files that differ.
    """
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise UserError(
            f"{where}: {', '.join(changed[:5])} of the data set changed since the {work} began, so its results could "
            f"not be compared. Restore the old files, or start a new {work} in another output_dir."
        )
