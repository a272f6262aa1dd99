"""Lines of Amazon's ratings files: four cells without texts, whose order differs between releases.

2014 has user,item and 2018 item,user, both without header; given as the wrong kind, users and items would be swapped
without any error. So the users of the first lines are checked for the form of product numbers.
"""

from __future__ import annotations

import re

from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.records import Interaction, Rejection, id_token, number
from recbole_lcrec.utils.errors import UserError

_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
_SAMPLE = 100  # lines after which the order of columns without header is judged
_CSV_NAMES = {
    "user": ("user_id", "user", "reviewerID", "userId", "user_key"),
    "item": ("parent_asin", "item", "asin", "item_id", "itemId"),
    "rating": ("rating", "overall"),
    "time": ("timestamp", "unixReviewTime", "time"),
}


class RatingsLines:
    """Reads lines of ratings without texts; knows whether there is a header and which column is which."""

    def __init__(self, columns: tuple[str, ...], kind: str, name: str) -> None:
        """Start at the first line.

        Args:
            columns: Meaning of the columns of a file without header: user, item, rating, time.
            kind: Name of the release, for messages.
            name: Name of the file, for messages.
        """
        self._columns = {meaning: position for position, meaning in enumerate(columns)}
        self._kind, self._name = kind, name
        self._width = len(columns)
        self._first = True
        self._seen = self._swapped = 0

    def __call__(self, line: bytes, part: Part) -> Interaction | None:
        """Return the interaction on a line; None for the header."""
        try:
            cells = line.decode("utf-8").rstrip("\r\n").split(",")
        except UnicodeDecodeError:
            raise Rejection("not UTF-8") from None
        if self._first:
            self._first = False
            if _is_header(cells):
                self._columns = self._named_columns(cells)
                self._width = len(cells)
                self._seen = -1  # named columns need no judgement
                return None
        if len(cells) != self._width:
            raise Rejection("another number of columns")
        user = id_token(cells[self._columns["user"]], "user")
        item = id_token(cells[self._columns["item"]], "item")
        time, rating = (
            number(cells[self._columns["time"]], "timestamp"),
            number(cells[self._columns["rating"]], "rating"),
        )
        if self._seen >= 0:
            self._seen += 1
            self._swapped += _ASIN.fullmatch(user) is not None and _ASIN.fullmatch(item) is None
            if self._seen == _SAMPLE:
                self.judge_order()
        return Interaction(user, item, time, rating, "")

    def judge_order(self) -> None:
        """Refuse a file whose users look like products: that is how 2014 and 2018 differ."""
        if self._swapped > max(self._seen, 0) / 2:
            other = "amazon2018" if self._kind != "amazon2018" else "amazon2014"
            raise UserError(
                f"{self._name}: where {self._kind} has users, this file has product numbers, so its columns are in "
                f"the order of {other}. Give that kind instead."
            )
        if self._seen >= _SAMPLE:
            self._seen = -1

    def _named_columns(self, cells: list[str]) -> dict[str, int]:
        columns = {}
        for meaning, names in _CSV_NAMES.items():
            found = [cells.index(name) for name in names if name in cells]
            if not found:
                raise UserError(
                    f"{self._name}, line 1: no column for the {meaning} (one of {', '.join(names)}); found "
                    f"{', '.join(cells)[:200]}. For other tables use the kind 'table'."
                )
            columns[meaning] = found[0]
        return columns


def _is_header(cells: list[str]) -> bool:
    """Whether no cell is a number, as a rating and a timestamp would be."""
    for cell in cells:
        try:
            float(cell)
        except ValueError:
            continue
        return False
    return True
