"""The one exception that means "the user can fix this": it becomes a single message and exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_LONGEST = 100
"""Characters of a name that is compared with others."""
_REASON = 300
"""Characters of a library's error that are shown."""


class UserError(Exception):
    """A wrong option, file, line, column, id or model name.

    The message says what was found and where, what was expected, and what to do. The command line prints it without
    a traceback and ends with exit status 2; the Python API lets it through.

    Attributes:
        mistakes: The separate messages; only :class:`UserErrors` has more than one.
    """

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The message."""
        return (str(self),)


class UserErrors(UserError):
    """Several mistakes, reported in one message.

    Args:
        mistakes: Their messages, two or more.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        listed = "\n".join(f"  - {mistake}" for mistake in mistakes)
        super().__init__(f"{len(mistakes)} mistakes in the options:\n{listed}")
        self._mistakes = tuple(mistakes)

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The messages."""
        return self._mistakes


class Mistakes:
    """Collects mistakes, so that all of them are reported at once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, message: str) -> None:
        """Note a mistake; a repeated message is noted once."""
        self._found[message if message.endswith((".", "?", ")")) else f"{message}."] = None

    def expect(self, right: bool, message: str) -> None:
        """Note a mistake unless ``right``."""
        if not right:
            self.add(message)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note any UserError that the block raises, and continue after the block."""
        try:
            yield
        except UserError as error:
            for message in error.mistakes:
                self.add(message)

    def tell(self, others: Mistakes) -> None:
        """Add the mistakes found here to ``others``."""
        for message in self._found:
            others.add(message)

    def __contains__(self, message: str) -> bool:
        return message in self._found

    @property
    def failed(self) -> bool:
        """Whether a mistake has been found so far."""
        return bool(self._found)

    def finish(self) -> None:
        """Raise what was found.

        Raises:
            UserError: One for all mistakes, if there are any.
        """
        if len(self._found) > 1:
            raise UserErrors(tuple(self._found))
        for message in self._found:
            raise UserError(message)


def clipped(text: str, length: int = 100) -> str:
    """Return a text, or its beginning: user input may be of any length, messages may not."""
    return text if len(text) <= length else text[: length - 3] + "..."


def shortened(value: object, length: int = 80) -> str:
    """Return a value's repr, or its beginning; see :func:`clipped`."""
    return clipped(repr(value), length)


def reason_of(error: BaseException) -> str:
    """Return what a library's error says, as one line without a full stop, for use inside a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:_REASON].rstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, or ``""`` when none is close.

    Args:
        name: What the user wrote.
        known: The names that would have been right.

    Returns:
        A sentence to append to an error message (with a leading space), or an empty string.
    """
    if len(name) > _LONGEST:
        return ""
    candidates = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.lower(), sorted(by_lower), n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[found[0]]}'?" if found else ""
