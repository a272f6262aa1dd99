"""RecBole's atomic files, read strictly: the one way in for everything that a user keeps in a table.

An atomic file is text with a header of ``name:type`` columns and a row per line. RecBole hands it to pandas, which
takes the first cells of overlong rows for an index, joins lines between quotes and pads short rows. Here every row has
as many cells as the header, quotes are characters like any other, and every mistake is reported with file, line and
column.

Lines end with LF, CRLF or CR; blank lines are skipped; a byte order mark at the start is skipped.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.lines import (
    BOM,
    GZIP,
    MAX_BLANK,
    MAX_LINE,
    first_bytes,
    other_kind,
    too_long,
    too_many_blank,
)

TYPES = ("token", "token_seq", "float", "float_seq")
MISSING_WORDS = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")
)
"""Tokens that RecBole, through pandas, reads as missing values."""

LARGEST = float(np.finfo(np.float32).max)
"""Numbers end up in float32 tensors, where anything beyond this is infinite."""

_SEPARATORS = ("\t", ",", ";", "|", " ")
_CHUNK = 1 << 20  # characters read at once


@dataclass(frozen=True)
class Header:
    """The first line of an atomic file.

    Attributes:
        path: The file.
        types: Column name -> its type, in the order of the file.
        separator: Between the cells of a row.
        codec: Name of the encoding, with the byte order mark skipped.
    """

    path: Path
    types: dict[str, str]
    separator: str
    codec: str

    def require(self, name: str, kind: str) -> None:
        """Refuse a column of another type than ``kind``.

        Raises:
            UserError: With the type that was found; a column that is not there is fine.
        """
        found = self.types.get(name, kind)
        if found != kind:
            hint = ""
            if kind == "float":
                hint = " Times are numbers, such as Unix seconds; `recbole_lcrec.convert table` reads ISO dates."
            elif found == "float":
                hint = " Numbers in the column are fine."
            raise UserError(
                f"{self.path}, line 1: column {name} has type {found}; expected {name}:{kind}, one "
                f"{'number' if kind == 'float' else 'token'} in each cell.{hint}"
            )


@dataclass(frozen=True)
class Table:
    """Columns of an atomic file.

    Attributes:
        header: Its first line.
        cells: Name -> raw texts, one per row, of the columns asked for that are kept as text.
        numbers: Name -> float64 [n_rows] of those read as numbers, NaN for empty cells.
        lines: Number of the line of each row, int64 [n_rows].
    """

    header: Header
    cells: dict[str, list[str]]
    numbers: dict[str, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, row: int) -> str:
        """Return file and line of a row, for messages."""
        return f"{self.header.path}, line {self.lines[row]}"

    def require_ids(self, name: str) -> None:
        """Refuse a row without an id in column ``name``, or with one that RecBole would take for something else.

        Raises:
            UserError: Naming the line.
        """
        distinct = set(self.cells[name])
        if wrong := distinct & (MISSING_WORDS | {"", "[PAD]"}):
            rows = [row for row, cell in enumerate(self.cells[name]) if cell in wrong]
            cell = self.cells[name][rows[0]]
            kind = f"{cell!r} as {name}, which RecBole takes for padding"
            if cell != "[PAD]":
                kind = f"no {name}, or one that pandas reads as missing (NA, null, nan, None, ...)"
            raise UserError(
                f"{self.at(rows[0])}: {kind}, in {len(rows)} line(s). RecBole would drop or mix them up silently: "
                "use another token, or remove the line."
            )


def read_header(path: Path, separator: str, encoding: str | None = None) -> Header:
    """Return the checked first line of an atomic file.

    Args:
        path: The file, which must exist.
        separator: RecBole's ``field_separator``.
        encoding: RecBole's ``encoding``; UTF-8 when None.

    Raises:
        UserError: For another kind of file, another encoding, and a header that does not consist of ``name:type``
            columns with different names.
    """
    if not isinstance(separator, str) or not separator or set(separator) & set("\r\n:"):
        raise UserError(f"option field_separator is {separator!r}; expected a character such as a tab or a comma.")
    codec = _codec(path, encoding)
    lines = next(_blocks(path, codec), [""])
    return Header(path, _columns(path, lines[0], separator), separator, codec)


def read_table(header: Header, columns: Collection[str] | None = None, *, numbers: bool = True) -> Table:
    """Read the rows of an atomic file.

    Args:
        header: What ``read_header`` returned.
        columns: Names of the columns that are wanted; None for all.
        numbers: Whether float columns are read as numbers; else they are kept as text.

    Raises:
        UserError: Naming file and line, for a row with another number of cells than the header, a cell of a float
            column that is neither a finite number nor empty, and text that is not in the encoding.
    """
    names = [name for name in header.types if columns is None or name in columns]
    floats = {name for name in names if numbers and header.types[name] == "float"}
    cells: dict[str, list[str]] = {name: [] for name in names if name not in floats}
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in floats}
    shared: dict[str, dict[str, str]] = {name: {} for name in cells if header.types[name] == "token"}
    all_lines = [np.empty(0, np.int64)]
    for lines, rows in _rows(header):
        all_lines.append(lines)
        together = list(chain.from_iterable(map(str.split, rows, repeat(header.separator))))
        for place, name in enumerate(header.types):
            column = together[place :: len(header.types)]
            if name in floats:
                parts[name].append(_floats(header, name, column, lines))
            elif name in shared:  # rows with equal tokens share one string
                cells[name].extend(map(shared[name].setdefault, column, column))
            elif name in cells:
                cells[name].extend(column)
    return Table(header, cells, {name: np.concatenate(parts[name]) for name in floats}, np.concatenate(all_lines))


def _rows(header: Header) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield (line numbers, rows) for some thousands of rows at a time, each with as many cells as the header."""
    number, n_blank, width = 1, 0, len(header.types)
    for block in _blocks(header.path, header.codec):
        lines = np.arange(number, number + len(block))
        number += len(block)
        if lines[0] == 1:  # the header
            block, lines = block[1:], lines[1:]
        if width == 1 or set(map(str.count, block, repeat(header.separator))) - {width - 1}:
            kept = [place for place, line in enumerate(block) if _is_row(header, line, lines[place])]
            n_blank += len(block) - len(kept)
            if n_blank > MAX_BLANK:
                raise too_many_blank(header.path)
            block, lines = [block[place] for place in kept], lines[kept]
        if block:
            yield lines, block


def _is_row(header: Header, line: str, number: int) -> bool:
    """Return False for a blank line, True for a row.

    Raises:
        UserError: For a row with another number of cells than the header.
    """
    found, width = line.count(header.separator) + 1, len(header.types)
    if found == 1 and not line.strip():
        return False
    if found != width:
        raise UserError(
            f"{header.path}, line {number}: found {found} cells, expected {width}, one for each column of the header "
            f"({', '.join(header.types)}), separated by {header.separator!r}: {line[:80]!r}."
        )
    return True


def _floats(header: Header, name: str, column: list[str], lines: np.ndarray) -> np.ndarray:
    """Return a float column's cells as pandas' reader would, NaN for empty ones."""
    values = np.array(column, dtype=object)
    try:
        numbers = np.asarray(pd.to_numeric(values), dtype=np.float64)
        bad = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
    except (ValueError, TypeError, OverflowError):
        numbers, bad = np.empty(0), np.arange(len(column))
    for row in bad:
        if column[row].strip() and not is_number(column[row]):
            raise UserError(
                f"{header.path}, line {lines[row]}: {column[row]!r} in column {name}:float is not a finite number "
                "that fits a float32. Leave the cell empty where there is no value."
            )
    if len(numbers) != len(column):  # pandas refuses some texts that Python's float takes, such as non-ASCII digits
        numbers = np.array([float(cell) if cell.strip() else np.nan for cell in column])
    return numbers


def is_number(text: str) -> bool:
    """Return whether a text is a finite number that fits a float32; 1_000, a number to Python only, is not."""
    try:
        return "_" not in text and abs(float(text)) <= LARGEST
    except ValueError:
        return False


def _codec(path: Path, encoding: str | None) -> str:
    """Return the name of the encoding with which to open a file.

    Raises:
        UserError: For an unknown encoding, and for a file that is not text in it.
    """
    try:
        codec = codecs.lookup(encoding or "utf-8")
        "".encode(codec.name)
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"option encoding is {encoding!r}, which is not an encoding of text. Expected utf-8, latin-1, gb18030, ..."
        ) from error
    try:
        start = first_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    kind = "compressed with gzip: unpack it first" if start.startswith(GZIP) else other_kind(start)
    if kind is not None and not (codec.name.startswith("utf-16") and "UTF-16" in kind):
        raise UserError(f"{path} is {kind}. Expected an atomic file: text with a header of name:type columns.")
    is_utf8 = codec.name in ("utf-8", "utf-8-sig")
    if start.startswith(BOM) and not is_utf8:
        raise UserError(
            f"{path} starts with the byte order mark of UTF-8, but option encoding is {encoding}. Leave it out."
        )
    return "utf-8-sig" if is_utf8 else codec.name


def _blocks(path: Path, codec: str) -> Iterator[list[str]]:
    """Yield the lines of a file, without line ends, some thousands at a time; the first block has the first line.

    Raises:
        UserError: For text that is not in the encoding, NUL characters, and a line of more than 64 MiB.
    """
    number, rest = 1, ""
    try:
        with path.open(encoding=codec) as file:
            while chunk := file.read(_CHUNK):
                if "\0" in chunk:
                    place = number + chunk[: chunk.index("\0")].count("\n")
                    raise UserError(f"{path}, line {place}: a NUL character. Expected text: is the file damaged?")
                lines = (rest + chunk).split("\n")
                rest = lines.pop()
                if len(rest) > MAX_LINE:
                    raise too_long(path, number + len(lines))
                number += len(lines)
                if lines:
                    yield lines
        if rest:
            yield [rest]
    except UnicodeError as error:
        where = _undecodable_line(path, codec)
        raise UserError(
            f"{path}{where}: cannot be read as text in {codec.removesuffix('-sig')} ({error}). Save it as UTF-8, or "
            "set encoding."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def _undecodable_line(path: Path, codec: str) -> str:
    """Return ``", line N"`` for the first line that is not in the encoding; "" if bytes do not tell lines apart."""
    if codec.startswith(("utf-16", "utf-32")):
        return ""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            try:
                line.decode(codec)
            except UnicodeError:
                return f", line {number}"
    return ""


def _columns(path: Path, line: str, separator: str) -> dict[str, str]:
    """Return the columns that a header names: name -> type.

    Raises:
        UserError: For a header that does not consist of name:type columns, saying what is wrong with it.
    """
    if not line.strip():
        raise UserError(f"{path} is empty or starts with a blank line; expected a header of name:type columns.")
    cells = [cell.split(":") for cell in line.split(separator)]
    if all(len(cell) == 2 and cell[0] and cell[1] in TYPES for cell in cells):
        names = [name for name, _ in cells]
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise UserError(f"{path}, line 1: column {twice[0]} occurs twice. Columns need different names.")
        return dict(zip(names, (kind for _, kind in cells), strict=True))
    other = _other_separator(line, separator)
    if other is not None:
        raise UserError(
            f"{path}, line 1: the columns are separated by {other!r}, expected {separator!r} (field_separator). Set "
            f"--field_separator={other!r} if all files of the data set are like that, or save it with tabs."
        )
    wrong = next(cell for cell in cells if not (len(cell) == 2 and cell[0] and cell[1] in TYPES))
    problem = f"{':'.join(wrong)[:80]!r} is not a column's name and type"
    if len(wrong) == 2 and wrong[0]:
        problem = f"column {wrong[0][:80]} has the unknown type {wrong[1][:80]!r}.{nearest(wrong[1], TYPES)}"
    hint = " Quotes are characters like any other here: leave them out." if '"' in line else ""
    if separator not in line and (others := [one for one in _SEPARATORS if one in line]):
        hint += f" The line looks separated by {others[0]!r}."
    raise UserError(
        f"{path}, line 1: {problem.rstrip('.')}. Expected a header of name:type columns separated by {separator!r}, "
        f"such as user_id:token, with the types {', '.join(TYPES)}; found {line[:80]!r}.{hint}"
    )


def _other_separator(line: str, separator: str) -> str | None:
    """Return another separator that splits a header into several name:type columns, or None."""
    for other in _SEPARATORS:
        cells = [cell.split(":") for cell in line.split(other)]
        if other != separator and len(cells) > 1 and all(len(cell) == 2 and cell[1] in TYPES for cell in cells):
            return other
    return None
