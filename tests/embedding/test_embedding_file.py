from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding import EmbeddingSettings, embed_items
from recbole_lcrec.utils.errors import UserError

ITEMS = ["a", "b", "c"]
ROWS = np.arange(12, dtype=np.float64).reshape(3, 4)


def load(path: Path, ids: Path | None = None, items: list[str] = ITEMS) -> np.ndarray:
    settings = restored(
        EmbeddingSettings, {"text_encoder": f"file:{path}", "embedding_ids_file": str(ids) if ids else None}
    )
    return embed_items(items, [""] * len(items), settings, cache_dir=path.parent / "cache", seed=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "e.npy", ROWS)
    return tmp_path / "e.npy"


def test_rows_in_catalogue_order(path: Path) -> None:
    vectors = load(path)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, ROWS)
    assert not (path.parent / "cache").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8, bool])
def test_any_kind_of_number(path: Path, dtype: type) -> None:
    np.save(path, ROWS.astype(dtype))
    np.testing.assert_array_equal(load(path), ROWS.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("text", ["c\nb\na\n", "c\r\nb\r\na", json.dumps(["c", "b", "a"]), "\ufeffc\nb\na\n\n"])
def test_rows_by_ids(path: Path, text: str) -> None:
    ids = path.with_name("ids.txt")
    ids.write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(load(path, ids), ROWS[::-1])
    np.testing.assert_array_equal(load(path, ids, ["b"]), ROWS[1:2])


def test_numbers_as_ids(path: Path) -> None:
    ids = path.with_name("ids.json")
    ids.write_text("[2, 0, 1]")
    np.testing.assert_array_equal(load(path, ids, ["0", "1", "2"]), ROWS[[1, 2, 0]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ROWS[:2], "found 2 rows, expected 3.*embedding_ids_file"),
        (ROWS[0], r"shape \[4\], expected numbers of shape \[items, dimensions\]"),
        (ROWS[:, :0], r"shape \[3, 0\]"),
        (ROWS[None], r"shape \[1, 3, 4\]"),
        (ROWS.astype("U4"), "expected numbers"),
        (ROWS.astype(complex), "expected numbers"),
        (np.where(ROWS == 5, np.nan, ROWS), "NaN or infinity in the rows of 1 item.*'b'.*item number 2"),
        (np.where(ROWS > 5, np.inf, ROWS), "rows of 2 item.*'b', 'c'"),
        (ROWS * 1e300, "NaN or infinity"),
        (np.array([[object()] * 4] * 3), "pickled"),
    ],
)
def test_a_wrong_array_is_a_message(path: Path, array: np.ndarray, message: str) -> None:
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_broken_files(path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(path.with_name("none.npy"))
    with pytest.raises(UserError, match="not a readable .npy"):
        load(path.parent)
    for content in (b"", b"junk junk junk", path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable .npy"):
            load(path)
    np.savez(path.with_name("e.npz"), ROWS)
    with pytest.raises(UserError, match="archive"):
        load(path.with_name("e.npz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\n", "found 2 item tokens, expected one for each of the 3 rows"),
        ("a\nb\na\n", "'a' occurs more than once"),
        ("a\nb\nd\n", r"1 of the data set's 3 items have no row \('c'\)"),
        ('["a", "b"', "cannot be read"),
        ('["a", "b", null]', "not item tokens"),
        (None, "no such file"),
    ],
)
def test_wrong_ids(path: Path, text: str | None, message: str) -> None:
    ids = path.with_name("ids.txt")
    if text is not None:
        ids.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load(path, ids)
    assert "embedding_ids_file=" in str(caught.value)
