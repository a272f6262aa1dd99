"""Your own catalogue: tables of interactions and items, as CSV, TSV or Parquet, with any column names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.reading import existing_file
from recbole_lcrec.convert.records import Interaction, Rejection, clean, id_token, number
from recbole_lcrec.convert.tabular import open_table
from recbole_lcrec.utils.errors import UserError, nearest

_ROLES = {"user": "user_id", "item": "item_id", "time": "timestamp"}
_OPTIONAL_ROLES = ("rating", "review")
_TEXTS = ("title", "description", "brand", "categories")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAN = float("nan")


class TableSource:
    """Two tables with a map of their columns."""

    kind = "table"
    carried: Mapping[str, Path] = {}

    def __init__(
        self,
        given: Path,
        items: str | None,
        columns: str | None,
        item_columns: str | None,
        *,
        separator: str | None = None,
        quotes: bool = True,
        show: bool = False,
    ) -> None:
        """Open both tables and check that the columns are there.

        Args:
            given: The table of interactions.
            items: The table of items; "none" for no item text.
            columns: ``user=customer,item=sku,time=when[,rating=stars][,review=text]``; None for user_id, item_id,
                timestamp.
            item_columns: ``item=sku,title=name,...``; the names on the left become columns of the ``.item`` file.
                None for item_id and those of title, description, brand and categories that are there.
            separator: Between the cells of a CSV; None to find it in the first line.
            quotes: Whether a double quote at the start of a cell is CSV quoting.
            show: Whether to show progress bars.

        Raises:
            UserError: For a missing file or column and a malformed map.
        """
        if items is None:
            raise UserError("--items=FILE is missing: the table with the items' text (or --items=none for no text).")
        self._roles = dict(_ROLES) if columns is None else _column_map("--columns", columns)
        _check_roles(self._roles)
        self._table = open_table(existing_file(given, "interactions"), separator, quotes, show)
        self._table.require(self._roles.values(), "--columns=user=...,item=...,time=...")
        self.files: dict[str, Path] = {"interactions": given}
        self.has_ratings, self.has_reviews = "rating" in self._roles, "review" in self._roles
        self.item_fields: tuple[str, ...] = ()
        if items != "none":
            self._open_items(existing_file(Path(items), "items' text"), item_columns, separator, quotes, show)
        elif item_columns is not None:
            raise UserError("--item-columns: there is no table of items (--items=none).")

    def _open_items(self, path: Path, given: str | None, separator: str | None, quotes: bool, show: bool) -> None:
        self._item_table = open_table(path, separator, quotes, show)
        if given is None:
            self._texts = {name: name for name in _TEXTS if name in self._item_table.names}
            self._item_column = "item_id"
        else:
            self._texts = _column_map("--item-columns", given)
            self._item_column = self._texts.pop("item", "")
            if not self._item_column:
                raise UserError(f"--item-columns={given}: item=COLUMN, the column of the item's id, is missing.")
        self._item_table.require([self._item_column, *self._texts.values()], "--item-columns=item=...,title=...")
        if not self._texts:
            raise UserError(
                f"{path}: which columns are text? Give --item-columns=item=...,title=..., with columns of "
                f"{', '.join(self._item_table.names)}."
            )
        bad = [name for name in self._texts if not _FIELD.fullmatch(name) or name == "item_id"]
        if bad:
            raise UserError(f"--item-columns: {bad[0]!r} cannot name a column of the .item file; use letters and _.")
        self.files["items"] = path
        self.item_fields = tuple(self._texts)

    def interactions(self, part: Part) -> Iterator[Interaction]:
        """Yield the rows in file order."""
        time_of = _Clock()
        roles = list(self._roles)
        for where, cells, raw in self._table.rows(list(self._roles.values()), part):
            row = dict(zip(roles, cells, strict=True))
            try:
                user, item = id_token(row["user"], "user"), id_token(row["item"], "item")
                rating = number(row["rating"], "rating") if self.has_ratings else _NAN
                review = row.get("review")
                interaction = Interaction(
                    user, item, time_of(row["time"]), rating, review if isinstance(review, str) else ""
                )
            except Rejection as rejection:
                part.reject(where, str(rejection), raw)
                continue
            part.passed += 1
            yield interaction
        time_of.judge(part.name)

    def items(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Yield the items in file order."""
        for where, cells, raw in self._item_table.rows([self._item_column, *self._texts.values()], part):
            try:
                token = id_token(cells[0], "item")
            except Rejection as rejection:
                part.reject(where, str(rejection), raw)
                continue
            part.passed += 1
            yield token, cells[1:]

    def item_text(self, record: Any) -> dict[str, str]:
        """Return the texts under the names of the ``.item`` file; lists become "a, b"."""
        return {name: clean(cell, ", ") for name, cell in zip(self._texts, record, strict=True)}


class _Clock:
    """Turns the cells of a time column into numbers: all numbers, or all dates in seconds since 1970 (UTC)."""

    def __init__(self) -> None:
        self._dates: bool | None = None
        self._good = self._other = 0

    def __call__(self, value: Any) -> float:
        """Return the time; the first good cell decides which of the two kinds the column has.

        Raises:
            Rejection: For neither, and for the other kind.
        """
        try:
            time, is_date = number(value, "time"), False
        except Rejection as rejection:
            if str(rejection) != "time is not a number":
                raise
            time, is_date = _seconds(value), True
        if self._dates is None:
            self._dates = is_date
        if is_date != self._dates:
            self._other += 1
            raise Rejection("time is a date among numbers" if is_date else "time is a number among dates")
        self._good += 1
        return time

    def judge(self, name: str) -> None:
        """Refuse a column whose first cell was misleading.

        Raises:
            UserError: If most cells are of the other kind.
        """
        if self._other > self._good:
            first, most = ("date", "numbers") if self._dates else ("number", "dates")
            raise UserError(f"{name}: the first time is a {first}, but most are {most}. Make them all {most}.")


def _seconds(value: Any) -> float:
    """Return an ISO date (2024-05-31, 2024-05-31T12:00:00+02:00, ...) or date object in seconds since 1970."""
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise Rejection("time is neither a number nor an ISO date") from None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if not isinstance(moment, datetime) or moment != moment:  # pandas' NaT differs from itself
        raise Rejection("time is neither a number nor an ISO date")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH).total_seconds()


def _column_map(option: str, text: str) -> dict[str, str]:
    """Read ``user=customer,item=sku``.

    Raises:
        UserError: For anything else, and a name given twice.
    """
    columns: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, column = (part.strip() for part in pair.partition("="))
        if not (name and equals and column):
            raise UserError(f"{option}={text}: expected name=column pairs separated by commas, found {pair!r}.")
        if name in columns:
            raise UserError(f"{option}={text}: {name} is given twice.")
        columns[name] = column
    return columns


def _check_roles(roles: Mapping[str, str]) -> None:
    known = [*_ROLES, *_OPTIONAL_ROLES]
    for name in roles:
        if name not in known:
            raise UserError(f"--columns: unknown name {name}.{nearest(name, known)} Known are {', '.join(known)}.")
    missing = [f"{name}=COLUMN" for name in _ROLES if name not in roles]
    if missing:
        raise UserError(f"--columns: {', '.join(missing)} missing.")
