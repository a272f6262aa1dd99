"""What is asked of every text file of a user before it is read: its kind, and lines of a sane size and number."""

from __future__ import annotations

from pathlib import Path

from recbole_lcrec.utils.errors import UserError

MAX_LINE = 1 << 26  # 64 MiB; a longer "line" is a file without line breaks, which must not be read into memory
MAX_BLANK = 1_000_000
"""Most blank lines that are skipped in a file; more are a mistake (60 million gzip to 275 KB)."""

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
_KINDS = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first, or pack it with gzip",
    b"\xfd7zXZ": "compressed with xz: unpack it first, or pack it with gzip",
    b"PAR1": "a Parquet file: only `recbole_lcrec.convert table` reads those",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


def first_bytes(path: Path, count: int = 8) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)


def other_kind(start: bytes) -> str | None:
    """Return what kind of file starts with these bytes and what to do with it; None for UTF-8 text."""
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)


def too_long(path: Path, number: int) -> UserError:
    """Return the error about a line of more than ``MAX_LINE`` bytes."""
    return UserError(f"{path}, line {number}: longer than {MAX_LINE >> 20} MiB; expected one record per line.")


def too_many_blank(path: Path) -> UserError:
    """Return the error about more than ``MAX_BLANK`` blank lines."""
    return UserError(
        f"{path}: more than {MAX_BLANK:,} blank lines. Expected one record per line: is the file damaged?"
    )
