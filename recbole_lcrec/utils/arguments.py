"""Checks of what a Python caller hands over, where a wrong type would end in a traceback far from its cause."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError, shortened


def whole_number(what: str, value: Any) -> int:
    """Return a whole number of 1 or more; numpy's are fine.

    Args:
        what: Its name, for the message.
        value: What the caller gave.

    Raises:
        UserError: If it is anything else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < 1:
        raise UserError(f"{what} must be a whole number of at least 1, found {value!r}.")
    return number


def item_lists(what: str, value: Any, *, may_be_empty: bool = False) -> list[list[str]]:
    """Return lists of item tokens as lists of texts.

    Args:
        what: Their name, for the message.
        value: What the caller gave: any iterable of iterables; ids may be numbers.
        may_be_empty: Whether a list may be empty.

    Raises:
        UserError: If it is anything else, or a list is empty that may not be.
    """
    expected = f"{what}: expected lists of item tokens, such as [['i1', 'i2'], ['i7']]"
    expected += "" if may_be_empty else ", none of them empty"
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise UserError(f"{expected}; found {_brief(value)}.")
    return [item_list(expected, entry, may_be_empty=may_be_empty) for entry in value]


def item_list(expected: str, value: Any, *, may_be_empty: bool = False) -> list[str]:
    """Return one list of item tokens as texts.

    Args:
        expected: The beginning of the message.
        value: What the caller gave.
        may_be_empty: Whether it may be empty.

    Raises:
        UserError: If it is anything but an iterable of texts or numbers, or empty and may not be.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise UserError(f"{expected}; found {_brief(value)}.")
    items = list(value)
    wrong = [item for item in items if not isinstance(item, str) and not _is_id(item)]
    if wrong or not (items or may_be_empty):
        raise UserError(f"{expected}; found {_brief(wrong[0] if wrong else items)}.")
    return [str(item) for item in items]


def texts(what: str, value: Any) -> dict[str, str]:
    """Return item -> text.

    Args:
        what: The argument's name, for the message.
        value: What the caller gave.

    Raises:
        UserError: If it is not a mapping of item tokens to texts.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{what} must be a mapping of item tokens to texts, found {_brief(value)}.")
    for item, text in value.items():
        if not isinstance(text, str):
            raise UserError(f"{what}: the text of {item!r} is {_brief(text)}; expected text, which may be empty.")
    return {str(item): text for item, text in value.items()}


def paths(value: Any) -> list[str | Path]:
    """Return ``config_files`` as a list; a single path is a list of one.

    Raises:
        UserError: If it is neither a path nor a list of paths.
    """
    files: Sequence[Any] = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(files, Mapping) or not isinstance(files, Iterable):
        raise UserError(f"config_files must be a list of paths, found {_brief(value)}.")
    files = list(files)
    for path in files:
        if not isinstance(path, (str, os.PathLike)):
            raise UserError(f"config_files must be a list of paths; one of them is {_brief(path)}.")
    return [path if isinstance(path, str) else Path(path) for path in files]


def options(what: str, value: Any) -> dict[str, Any]:
    """Return options as a new dictionary; None means no options.

    Raises:
        UserError: If it is not a mapping of names to values.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{what} must be a mapping of option names to values, found {_brief(value)}.")
    return dict(value)


def name(what: str, value: Any) -> str | None:
    """Return the name of a model or of a data set; None means no name.

    Raises:
        UserError: If it is not text.
    """
    if value is not None and not isinstance(value, str):
        expected = "a name or a class" if what == "model" else "a name"
        raise UserError(f"{what} must be {expected}, found {_brief(value)}.")
    return value


def _is_id(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and operator.index(value) is not None
    except TypeError:
        return False


def _brief(value: Any) -> str:
    return f"{shortened(value, 60)} ({type(value).__name__})"
