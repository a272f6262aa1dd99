"""The one exception that means "the user can fix this": it becomes a single message and exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 100
"""Characters of a name that is compared with others."""


class UserError(Exception):
    """A wrong option, file, line, column, id or model name.

    The message says what was found and where, what was expected, and what to do. The command line prints it without
    a traceback and ends with exit status 2; the Python API lets it through.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, or ``""`` when none is close.

    Args:
        name: What the user wrote.
        known: The names that would have been right.

    Returns:
        A sentence to append to an error message (with its leading blank), or an empty string.
    """
    if len(name) > _LONGEST:
        return ""
    candidates = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.lower(), sorted(by_lower), n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[found[0]]}'?" if found else ""
