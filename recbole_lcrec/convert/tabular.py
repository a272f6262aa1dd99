"""Rows of CSV, TSV and Parquet files, chosen columns only, with the raw text of every row for the reject file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.reading import numbered_lines
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.lines import first_bytes
from recbole_lcrec.utils.progress import progress

SEPARATORS = ("\t", ",", ";", "|")
_BATCH = 1 << 14  # rows of a Parquet file in memory at once


class NamedColumns(Protocol):
    """A file with named columns."""

    names: list[str]

    def require(self, columns: Iterable[str], option: str) -> None:
        """Refuse the file when a column is missing or named twice."""
        ...

    def rows(self, columns: Sequence[str], part: Part) -> Iterator[tuple[str, list[Any], str]]:
        """Yield (where, cells of ``columns``, the row as text), counting what is read and rejecting broken rows."""
        ...


class _Named:
    """What both kinds share: names of columns and the path for messages."""

    def __init__(self, path: Path, names: list[str], show: bool) -> None:
        self.path, self.names, self._show = path, names, show

    def require(self, columns: Iterable[str], option: str) -> None:
        """Refuse the file when a column is missing or named twice.

        Raises:
            UserError: With the columns found and the nearest name.
        """
        for column in columns:
            if self.names.count(column) != 1:
                problem = "no column" if column not in self.names else "more than one column"
                raise UserError(
                    f"{self.path}: {problem} {column}.{nearest(column, self.names)} Found: "
                    f"{', '.join(self.names)[:300]}. Name the columns with {option}"
                )


def open_table(path: Path, separator: str | None, quotes: bool, show: bool) -> NamedColumns:
    """Return the table in a file, Parquet or text (detected by content).

    Raises:
        UserError: If it is neither.
    """
    if first_bytes(path, 4) == b"PAR1":
        return _ParquetTable(path, show)
    return _TextTable(path, separator, quotes, show)


class _TextTable(_Named):
    """CSV or TSV with a header, plain or gzip, with CSV's quotes."""

    def __init__(self, path: Path, separator: str | None, quotes: bool, show: bool) -> None:
        header = next((line for _, line in numbered_lines(path, False) if not line.isspace()), None)
        if header is None:
            raise UserError(f"{path} is empty; expected a header and one row per line.")
        try:
            text = header.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line 1: not UTF-8 ({error}). Expected a CSV or Parquet file.") from error
        if separator is not None:
            separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
            if len(separator) != 1 or separator in '"\r\n':
                raise UserError(f"--separator={separator}: expected one character, or tab.")
        self._options: dict[str, Any] = {
            "delimiter": separator or max(SEPARATORS, key=text.count),
            "quoting": csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
            "strict": True,  # a stray quote is an error of its row instead of swallowing the rows up to the next one
        }
        try:
            names = next(csv.reader([text], **self._options))
        except csv.Error as error:
            raise UserError(f"{path}, line 1: cannot be read as a header ({error}).") from error
        super().__init__(path, [name.strip() for name in names], show)

    def rows(self, columns: Sequence[str], part: Part) -> Iterator[tuple[str, list[Any], str]]:
        """Yield the rows; see NamedColumns."""
        places = [self.names.index(column) for column in columns]
        lines = _Recorder(numbered_lines(self.path, self._show))
        reader = csv.reader(lines, **self._options)
        header_passed = False
        while True:
            try:
                cells = next(reader)
                problem = None if len(cells) == len(self.names) else "another number of columns than the header"
            except StopIteration:
                return
            except csv.Error as error:
                cells, problem = [""], str(error)
            first, raw = lines.taken()
            if not cells or raw.isspace():
                part.blank += 1
            elif not header_passed:
                header_passed = True
            else:
                part.read += 1
                if problem is None and not raw.isascii() and not _is_text(raw):
                    problem = "not UTF-8"
                if problem is None:
                    yield str(first), [cells[place] for place in places], raw
                else:
                    part.reject(str(first), problem, raw)


def _is_text(raw: str) -> bool:
    """Whether all bytes were UTF-8: the others were decoded to surrogates."""
    return not any("\udc80" <= character <= "\udcff" for character in raw)


class _Recorder:
    """Hands lines to the CSV reader and remembers those since the last row: a row may span several."""

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self._lines = lines
        self._first = 0
        self._since: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        text = line.decode("utf-8", "surrogateescape")
        if not self._since:
            self._first = number
        self._since.append(text)
        return text

    def taken(self) -> tuple[int, str]:
        """Return the first line number and the text of the row just read."""
        raw = "".join(self._since)
        self._since = []
        return self._first, raw


class _ParquetTable(_Named):
    """A Parquet file, read a few thousand rows at a time."""

    def __init__(self, path: Path, show: bool) -> None:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]

        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as a Parquet file ({error}).") from error
        super().__init__(path, self._file.schema_arrow.names, show)

    def rows(self, columns: Sequence[str], part: Part) -> Iterator[tuple[str, list[Any], str]]:
        """Yield the rows; see NamedColumns."""
        wanted = list(dict.fromkeys(columns))
        bar = progress(description=self.path.name, show=self._show, total=self._file.metadata.num_rows, unit="rows")
        with bar:
            try:
                for batch in self._file.iter_batches(_BATCH, columns=wanted):
                    values = [batch.column(wanted.index(column)).to_pylist() for column in columns]
                    for cells in zip(*values, strict=True):
                        part.read += 1
                        yield f"row {part.read}", list(cells), json.dumps(cells, default=str, ensure_ascii=False)
                    bar.update(batch.num_rows)
            except (OSError, ValueError) as error:
                raise UserError(f"{self.path}, after row {part.read}: damaged Parquet file ({error}).") from error
