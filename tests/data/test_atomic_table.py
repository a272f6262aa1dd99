"""Atomic files are read strictly: what is wrong is told with file, line and column, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.utils import lines, table
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.table import Table, read_header, read_table

HEAD = "user_id:token\titem_id:token\ttimestamp:float\n"


def read(folder: Path, content: str | bytes, separator: str = "\t", encoding: str | None = None) -> Table:
    path = folder / "x.inter"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(read_header(path, separator, encoding))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_rows_of_every_line_ending(tmp_path: Path, ending: str, last: bool) -> None:
    text = ending.join([HEAD.strip(), "u1\ti1\t1", "", "  ", 'u"2\t"i2"\t2.5']) + (ending if last else "")
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        found = read(tmp_path, content)
        assert found.cells == {"user_id": ["u1", 'u"2'], "item_id": ["i1", '"i2"']}
        assert found.numbers["timestamp"].tolist() == [1.0, 2.5] and found.lines.tolist() == [2, 5]


def test_a_file_in_pieces_is_read_as_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + "".join(f"u{n}\ti{n % 7}\t{n / 8}\n" + "\n" * (n % 3 == 0) for n in range(500))
    whole = read(tmp_path, text)
    monkeypatch.setattr(table, "_CHUNK", 37)
    pieces = read(tmp_path, text)
    assert pieces.cells == whole.cells and len(whole) == 500
    np.testing.assert_array_equal(pieces.lines, whole.lines)
    np.testing.assert_array_equal(pieces.numbers["timestamp"], whole.numbers["timestamp"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (HEAD + "u\ti\t1\nu\ti\t5\t2\n", "line 3: found 4 cells, expected 3"),
        (HEAD + "u\ti\n", "line 2: found 2 cells"),
        (HEAD + "\t\n", "line 2: found 2 cells"),
        ("user_id:token\tuser_id:token\nu\tu\n", "column user_id occurs twice"),
        ("user_id\titem_id\nu\ti\n", "'user_id' is not a column's name and type"),
        ("user_id:tokn\nu\n", "unknown type 'tokn'. Did you mean 'token'"),
        ("user_id,item_id\nu,i\n", "looks separated by ','"),
        (HEAD.replace("\t", ","), r"separated by ',', expected '\\t'"),
        (HEAD.replace("\t", ";") + "u;i;1\n", "--field_separator=';'"),
        ('"user_id:token"\t"item_id:token"\n', "Quotes are characters"),
        (HEAD + "u\ti\tsoon\n", "line 2: 'soon' in column timestamp:float is not a finite number"),
        (HEAD + "u\ti\t1\n\nu\ti\tinf\n", "line 4: 'inf' in column timestamp"),
        (HEAD + "u\ti\t1e400\n", "'1e400'"),
        (HEAD + "u\ti\t1e39\n", "'1e39'"),
        (HEAD + "u\ti\tNaN\n", "'NaN'"),
        (HEAD + "u\ti\tNA\n", "'NA'.*Leave the cell empty"),
        (HEAD + "u\ti\t1_000\n", "'1_000'"),
        (HEAD + "u\ti\t1\nu\0\ti\t1\n", "line 3: a NUL character"),
        (HEAD.encode() + b"u\ti\t1\nu\xe9\ti\t1\n", "line 3: cannot be read as text in utf-8"),
        (b"PK\x03\x04abc", "zip archive"),
        (b"\x1f\x8babc", "gzip: unpack it"),
        (HEAD.encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.inter.*{message}"):
        read(tmp_path, content)


def test_encodings_and_separators(tmp_path: Path) -> None:
    assert read(tmp_path, "a:token,b:token\né,|\n".encode("latin-1"), ",", "latin-1").cells == {"a": ["é"], "b": ["|"]}
    assert read(tmp_path, "a:token\té:token\n1\t2\n".encode("utf-16"), encoding="utf-16").cells["é"] == ["2"]
    with pytest.raises(UserError, match="encoding is 'utf-9'"):
        read(tmp_path, HEAD, encoding="utf-9")
    with pytest.raises(UserError, match="encoding is 'hex'"):
        read(tmp_path, HEAD, encoding="hex")
    with pytest.raises(UserError, match="field_separator"):
        read(tmp_path, HEAD, "")


def test_empty_numbers_are_missing(tmp_path: Path) -> None:
    assert np.isnan(read(tmp_path, HEAD + "u\ti\t\nu\ti\t3\n").numbers["timestamp"]).tolist() == [True, False]


def test_blow_ups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_BLANK", 10)
    with pytest.raises(UserError, match="blank lines"):
        read(tmp_path, HEAD + "\n" * 11)
    monkeypatch.setattr(table, "MAX_LINE", 100)
    monkeypatch.setattr(table, "_CHUNK", 64)
    with pytest.raises(UserError, match="line 2: longer than"):
        read(tmp_path, HEAD + "u" * 1000)
    assert lines.MAX_LINE == 1 << 26 and lines.MAX_BLANK == 1_000_000
