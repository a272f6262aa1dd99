"""How this program was called, for the commands that it prints: what one copies from a terminal has to work there."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

CALLED_AS = "RECBOLE_LCREC_CALLED_AS"
"""The variable that tells processes started by this program how it was called itself."""


def program() -> str:
    """Return the command before its arguments: ``recbole-lcrec``, or Python with the script or the package."""
    if given := os.environ.get(CALLED_AS):
        return given
    name = Path(sys.argv[0]).name
    if name == "run_recbole_lcrec.py":
        return f"python {shlex.quote(sys.argv[0])}"
    return name if name == "recbole-lcrec" else "python -m recbole_lcrec"
