"""Which code made a result: the commit of the checkout that this package is imported from."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def commit(root: Path = ROOT) -> str | None:
    """Return the short hash of a checkout's commit, with ``+changes`` where tracked files differ from it.

    Args:
        root: The folder that would hold ``.git``.

    Returns:
        None where the package is installed without its history, or git cannot tell.
    """
    if not (root / ".git").exists():  # site-packages inside another project's checkout is not a checkout of ours
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
