"""The users to recommend to, read from files row by row: memory does not grow with their number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_lcrec.recommending.order import PART
from recbole_lcrec.utils.errors import UserError, clipped, shortened
from recbole_lcrec.utils.lines import MAX_LINE, first_bytes, other_kind, too_long

Asker = tuple[str, list[str] | None]
"""A user token, and a history of item tokens, or None for the user's known history."""
_COLUMNS = "expected the columns user and history"


@dataclass(frozen=True)
class Portion:
    """Some consecutive askers of a source.

    Attributes:
        number: Number of the part, from 0.
        names: User tokens.
        histories: Item tokens, oldest first, one list per user; None for the users' known histories.
    """

    number: int
    names: list[str]
    histories: list[list[str]] | None


def parts_of(askers: Iterable[Asker], size: int = PART) -> Iterator[Portion]:
    """Cut askers into parts."""
    rest = iter(askers)
    number = 0
    while some := list(islice(rest, size)):
        names, histories = [name for name, _ in some], [history for _, history in some if history is not None]
        yield Portion(number, names, histories if some[0][1] is not None else None)
        number += 1


def read_tokens(path: Path, what: str) -> list[str]:
    """Return the tokens of a file, one per line; blank lines are skipped.

    Raises:
        UserError: If the file is not text, or has no token.
    """
    tokens = [line.strip() for _, line in _lines(path, what) if line.strip()]
    if not tokens:
        raise UserError(f"{what}={path}: the file is empty; expected one token per line.")
    return tokens


def read_histories(path: Path) -> Iterator[Asker]:
    """Yield user tokens with their histories.

    Args:
        path: CSV or Parquet with the columns ``user`` and ``history``, or JSON lines with these keys. A history is a
            list of item tokens, in CSV separated by blanks (or a JSON list, for tokens that contain blanks).

    Raises:
        UserError: Naming file and line.
    """
    kind = path.suffix
    rows = _csv_rows(path) if kind == ".csv" else _parquet_rows(path) if kind == ".parquet" else _json_rows(path)
    for number, user, history in rows:
        yield _token(user, path, number, "user"), _history(history, path, number)


def _lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers."""
    if (kind := other_kind(first_bytes(path))) is not None:
        raise UserError(f"{what}={path}: the file is {kind}.")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
            if len(line) > MAX_LINE:
                raise too_long(path, number)
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{what}={path}, line {number}: not UTF-8 text ({error.reason}).") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, Any, Any]]:
    csv.field_size_limit(MAX_LINE)
    reader = csv.DictReader(line for _, line in _lines(path, "histories"))
    try:
        columns = reader.fieldnames or ()
        if not {"user", "history"} <= set(columns):
            raise UserError(f"histories={path}, line 1: found {clipped(', '.join(columns))}; {_COLUMNS}.")
        for row in reader:
            yield reader.line_num, row["user"], row["history"]
    except csv.Error as error:
        raise UserError(f"histories={path}, line {reader.line_num}: not CSV ({error}).") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Any, Any]]:
    for number, line in _lines(path, "histories"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield number, row["user"], row["history"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f'histories={path}, line {number}: expected {{"user": "u1", "history": ["i1", "i2"]}} '
                f"({type(error).__name__}: {clipped(str(error))})."
            ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        if not {"user", "history"} <= set(file.schema_arrow.names):
            found = clipped(", ".join(file.schema_arrow.names))
            raise UserError(f"histories={path}: found {found}; {_COLUMNS}.")
        number = 0
        for batch in file.iter_batches(batch_size=PART, columns=["user", "history"]):
            for user, history in zip(batch["user"].to_pylist(), batch["history"].to_pylist(), strict=True):
                number += 1
                yield number, user, history
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"histories={path}: not a Parquet file that can be read ({clipped(str(error))}).") from error


def _token(value: Any, path: Path, number: int, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise UserError(f"histories={path}, line {number}: the {what} is {shortened(value)}; expected a token.")
    return str(value)


def _history(value: Any, path: Path, number: int) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("["):
            return text.split()
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text.split()
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise UserError(
            f"histories={path}, line {number}: the history is {shortened(value)}; expected a list of item tokens."
        )
    return [_token(item, path, number, "history's item") for item in value]
