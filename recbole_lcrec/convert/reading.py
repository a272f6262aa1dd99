"""Reading raw files line by line, plain or compressed by gzip, with progress and with errors that name the line."""

from __future__ import annotations

import ast
import gzip
import io
import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from recbole_lcrec.convert.records import Rejection
from recbole_lcrec.utils.errors import UserError
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
from recbole_lcrec.utils.progress import progress

_BAR_STEP = 4096  # lines between two updates of the progress bar


def existing_file(path: Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        UserError: If it is not.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected the file with the {what}.")
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected the file with the {what}.")
    return path


def numbered_lines(path: Path, show: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line with its line break); the UTF-8 byte order mark is removed.

    Args:
        path: A text file, plain or compressed by gzip (detected by content).
        show: Whether to show a progress bar, in bytes of the file.

    Raises:
        UserError: For another kind of file, a damaged archive, a line of more than 64 MiB, or a million blank lines.
    """
    start = first_bytes(path)
    if kind := other_kind(start):
        raise UserError(f"{path} is {kind}.")
    done = number = n_blank = 0
    with path.open("rb") as raw, _bar(path, show) as bar:
        stream = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=raw)), 1 << 20) if start.startswith(GZIP) else raw
        while line := _next_line(stream, path, number):
            number += 1
            if len(line) > MAX_LINE:
                raise too_long(path, number)
            n_blank += line.isspace()
            if n_blank > MAX_BLANK:
                raise too_many_blank(path)
            yield number, line.removeprefix(BOM) if number == 1 else line
            if number % _BAR_STEP == 0:
                bar.update(raw.tell() - done)
                done = raw.tell()


def _bar(path: Path, show: bool) -> Any:
    size = path.stat().st_size
    return progress(description=path.name, show=show, total=size, unit="B", unit_scale=True)


def _next_line(stream: BinaryIO | io.BufferedReader, path: Path, number: int) -> bytes:
    try:
        return stream.readline(MAX_LINE + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}, after line {number}: the compressed file is damaged or cut off ({error}). Fetch it again."
        ) from error


def json_object(line: bytes, *, loose: bool) -> dict[str, Any]:
    """Return the object on a line of JSON.

    Args:
        line: One line.
        loose: Whether a Python literal (single quotes, None, True) is accepted, as in the 2014 Amazon files.

    Raises:
        Rejection: For anything else.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejection("not UTF-8") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if not loose:
            raise Rejection("not valid JSON") from None
        value = _literal(text)
    if not isinstance(value, dict):
        raise Rejection("no JSON object")
    return value


def _literal(text: str) -> Any:
    """Return a Python literal; ast.literal_eval never runs code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" and the like are of no use to the user
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Rejection("neither valid JSON nor a Python literal") from None
