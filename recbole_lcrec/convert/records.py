"""What a source hands over, and the rules that every id, number and text has to obey to survive RecBole's reader."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from recbole_lcrec.convert.intake import Part
from recbole_lcrec.data.text import clean_text
from recbole_lcrec.utils.table import MISSING_WORDS

_UNWRITABLE = re.compile("[\t\n\r\0\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x08\x0e-\x1b\x7f]")
_LARGEST = 2.0**53


class Interaction(NamedTuple):
    """One interaction, checked.

    Attributes:
        user: User token.
        item: Item token.
        time: Timestamp in the source's own unit.
        rating: NaN if the source has none.
        review: Review text as found, "" if there is none.
    """

    user: str
    item: str
    time: float
    rating: float
    review: str


class Source(Protocol):
    """A data set to be read, as often as needed, each time in the same order.

    Attributes:
        kind: Name of the source on the command line.
        has_ratings: Whether interactions carry ratings.
        has_reviews: Whether interactions may carry review texts.
        item_fields: Text columns of the ``.item`` file; empty if there is no item text at all.
    """

    kind: str
    has_ratings: bool
    has_reviews: bool
    item_fields: tuple[str, ...]

    @property
    def files(self) -> Mapping[str, Path]:
        """What is read, by role."""
        ...

    @property
    def carried(self) -> Mapping[str, Path]:
        """File suffix in the data set (".index.json") -> checked file that is copied unchanged."""
        ...

    def interactions(self, part: Part) -> Iterator[Interaction]:
        """Yield the interactions in file order; count and reject through ``part``."""
        ...

    def items(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Yield item tokens with their record as found, in file order; an item may occur again."""
        ...

    def item_text(self, record: Any) -> dict[str, str]:
        """Return the cleaned text of a record that ``items`` yielded, one entry per field."""
        ...


class Rejection(Exception):
    """A line that cannot be used; the message is one of a few fixed reasons, so that they can be counted."""


def id_token(value: Any, what: str) -> str:
    """Return an id as a token that RecBole reads back unchanged.

    Args:
        value: A string or whole number as found.
        what: The field's name, for the reason.

    Raises:
        Rejection: For no id, a word that pandas reads as missing, RecBole's padding token, a tab or line break (they
            separate columns and lines), half a surrogate pair (no UTF-8) or a quote at the start (a CSV quote).
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))  # a whole column of ids with one gap becomes float in pandas and Parquet
    else:
        raise Rejection(
            f"no {what}" if value is None or value != value else f"{what} is neither text nor a whole number"
        )
    if not text or text.isspace():
        raise Rejection(f"no {what}")
    if text in MISSING_WORDS:
        raise Rejection(f"{what} is a word that RecBole reads as missing (NA, null, nan, None, ...)")
    if _UNWRITABLE.search(text):
        raise Rejection(f"{what} has a tab, a line break or a character that UTF-8 cannot hold")
    if text[0] == '"' or text == "[PAD]":
        raise Rejection(f"{what} starts with a quote or is RecBole's padding token [PAD]")
    return text


def number(value: Any, what: str) -> float:
    """Return a finite number that float64 holds exactly enough to sort by.

    Raises:
        Rejection: For no number, or one beyond 2**53, where RecBole's float64 would merge neighbours.
    """
    if value is None or value == "" or isinstance(value, bool):
        raise Rejection(f"no {what}")
    if isinstance(value, str) and "_" in value:  # only Python takes 1_000 for a number
        raise Rejection(f"{what} is not a number")
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Rejection(f"{what} is not a number") from None
    if not math.isfinite(result):
        raise Rejection(f"{what} is not a number")
    if abs(result) > _LARGEST:
        raise Rejection(f"{what} is beyond 2**53, more than a float holds exactly")
    return result


def clean(value: Any, separator: str = " ") -> str:
    """Return any text value of a catalogue as one clean line; "" if there is none.

    Args:
        value: A string, a number, None, or lists of them, nested to any depth.
        separator: Between the parts of a list.
    """
    if isinstance(value, str):
        text = _CONTROL.sub(" ", value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if text[:1] == '"':  # clean_text takes outer quotes for CSV quoting; these are the text's own
            text = csv_cell(text)
        return clean_text(text)
    if isinstance(value, (list, tuple)):
        return separator.join(filter(None, (clean(part, separator) for part in value)))
    if value is None or isinstance(value, (bool, dict)) or value != value:
        return ""
    return clean_text(str(value))


def csv_cell(text: str) -> str:
    """Return ``text`` so that both pandas and ``clean_text`` read it back: a leading quote makes it a quoted cell."""
    if text[:1] != '"':
        return text
    return '"' + text.replace('"', '""') + '"'
