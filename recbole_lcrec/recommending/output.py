"""The file of recommendations: written in parts that outlive an interruption, put together whole at the end.

``recs.csv.partial/`` holds a file per part and ``manifest.json``, which says which request the parts answer. A part
is there whole or not at all, so that the same command continues after the parts that are there.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from recbole_lcrec.recommending.lists import Recommendations
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_path, mend, write_json
from recbole_lcrec.utils.integrity import MANIFEST
from recbole_lcrec.utils.locks import LOCK, sole_lock
from recbole_lcrec.version import __version__

_WRITER, _REQUEST = "recbole_lcrec", "request"


def columns_of(titles: bool) -> tuple[str, ...]:
    """Return the columns of the file."""
    return ("user", "rank", "item", *(("title",) if titles else ()), "score", "source")


def encoded(found: Recommendations, names: Iterable[str], suffix: str, *, titles: bool) -> bytes:
    """Return the rows of some users as the bytes of a part.

    Args:
        found: Their lists.
        names: Their tokens.
        suffix: ``.csv`` (without a header), ``.jsonl`` or ``.parquet``.
        titles: Whether to write titles.
    """
    rows = [
        (name, rank, item, *((title,) if titles else ()), score, one.source)
        for name, one in zip(names, found, strict=True)
        for rank, item, title, score in one.rows()
    ]
    columns = columns_of(titles)
    if suffix == ".parquet":
        return _parquet(rows, titles)
    text = io.StringIO(newline="")
    if suffix == ".csv":
        csv.writer(text, lineterminator="\n").writerows(rows)
    else:
        text.writelines(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _schema(titles: bool) -> Any:
    import pyarrow

    types = {"rank": pyarrow.int32(), "score": pyarrow.float32()}
    return pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns_of(titles)])


def _parquet(rows: list[tuple[Any, ...]], titles: bool) -> bytes:
    import pyarrow
    from pyarrow import parquet

    schema = _schema(titles)
    values = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pyarrow.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), buffer)
    return buffer.getvalue()


class Parts:
    """The parts of an output file that are written so far.

    Args:
        output: The file to write at the end.
        folder: Where the parts are.
        titles: Whether the file has titles.
    """

    def __init__(self, output: Path, folder: Path, titles: bool) -> None:
        self._output, self._folder, self._titles = output, folder, titles

    @property
    def suffix(self) -> str:
        """The output's format."""
        return self._output.suffix

    def has(self, number: int) -> bool:
        """Return whether a part is written."""
        return self._path(number).is_file()

    def write(self, number: int, data: bytes) -> None:
        """Write a part."""
        with atomic_path(self._path(number)) as temporary:
            temporary.write_bytes(data)

    def join(self, count: int) -> None:
        """Put ``count`` parts together into the output; the parts stay.

        Raises:
            UserError: If another process has written the output in the meantime.
        """
        if self._output.exists():
            raise UserError(
                f"output={self._output} was created in the meantime. Move it away and give the command again: "
                f"what was computed is in {self._folder}."
            )
        with atomic_path(self._output) as temporary:
            if self.suffix == ".parquet":
                self._join_parquet(count, temporary)
            else:
                with temporary.open("wb") as file:
                    self._join_texts(count, file)

    def _join_texts(self, count: int, file: BinaryIO) -> None:
        if self.suffix == ".csv":
            file.write((",".join(columns_of(self._titles)) + "\n").encode())
        for number in range(count):
            with self._path(number).open("rb") as part:
                shutil.copyfileobj(part, file)

    def _join_parquet(self, count: int, path: Path) -> None:
        from pyarrow import parquet

        with parquet.ParquetWriter(path, _schema(self._titles)) as writer:
            for number in range(count):
                writer.write_table(parquet.read_table(self._path(number)))

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}{self.suffix}"


@contextmanager
def parts_of_output(output: Path, folder: Path, request: Mapping[str, Any], *, titles: bool) -> Iterator[Parts]:
    """Hold the folder of an output's parts, a new one or that of an interrupted command with the same request.

    The folder is removed when the block ends without an error.

    Args:
        output: The file to write at the end.
        folder: The folder of the parts.
        request: What the parts answer, as it is in JSON.
        titles: Whether the file has titles.

    Raises:
        UserError: If the folder is of another request or not of this package, or another process is using it.
    """
    before = _request_of(folder)
    if before is not None and before != request:
        differ = sorted(name for name in {*before, *request} if before.get(name) != request.get(name))
        raise UserError(
            f"{folder} holds parts of the answer to another command (different: {', '.join(differ)}). Remove the "
            "folder to start over, give the same command as before to go on, or choose another --output."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with sole_lock(folder / LOCK, f"output={output}", "process", "another --output"):
        for path in sorted(folder.glob("part-*")):
            mend(path)
        write_json(folder / MANIFEST, {_WRITER: __version__, _REQUEST: dict(request)})
        yield Parts(output, folder, titles)
    for path in (*sorted(folder.glob(f"part-*{output.suffix}")), folder / MANIFEST):
        path.unlink()
    folder.rmdir()


def _request_of(folder: Path) -> dict[str, Any] | None:
    """Return the request that the parts in a folder answer; None if there is no folder, or nothing in it yet.

    Raises:
        UserError: If it holds anything else.
    """
    if not folder.exists() or not any(path.name != LOCK for path in folder.iterdir()):
        return None
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if record[_WRITER] and isinstance(record[_REQUEST], dict):
            return record[_REQUEST]  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{folder}: it holds files that are not parts of recommendations. Choose another --output.")
