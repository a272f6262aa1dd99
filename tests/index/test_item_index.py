from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.index import ItemIndex, check_capacity, load_index
from recbole_lcrec.utils.errors import UserError

ITEMS = ("B001", "ü-2", 'quo"te', "10")
CODES = np.array([[0, 1], [0, 2], [3, 1], [2, 0]])


@pytest.fixture
def index() -> ItemIndex:
    return ItemIndex(ITEMS, CODES, (4, 3))


def test_tokens_and_paths(index: ItemIndex) -> None:
    assert index.index_tokens() == ["<a_0>", "<a_1>", "<a_2>", "<a_3>", "<b_0>", "<b_1>", "<b_2>"]
    assert index.path('quo"te') == ("<a_3>", "<b_1>")
    assert index.positions(["10"]).tolist() == [3] and len(index) == 4


def test_unknown_item_is_a_message(index: ItemIndex) -> None:
    with pytest.raises(UserError, match="'B002' is not in the item index.*Did you mean 'B001'"):
        index.path("B002")


def test_codes_cannot_be_written(index: ItemIndex) -> None:
    with pytest.raises(ValueError):
        index.codes[0, 0] = 1
    source = CODES.copy()
    made = ItemIndex(ITEMS, source, (4, 3))
    source[0, 0] = 1
    assert made.codes[0, 0] == 0


def test_equality(index: ItemIndex) -> None:
    assert index == ItemIndex(ITEMS, CODES.tolist(), (4, 3))  # type: ignore[arg-type]
    assert index != ItemIndex(ITEMS, CODES, (5, 3))
    assert index != ItemIndex(ITEMS[::-1], CODES, (4, 3))
    assert index != "index"


@pytest.mark.parametrize(
    ("items", "codes", "sizes", "message"),
    [
        (ITEMS, [[0, 1], [0, 1], [3, 1], [2, 0]], (4, 3), "3 distinct paths"),
        (("a", "a", "b", "c"), CODES, (4, 3), "more than once"),
        (ITEMS, CODES, (3, 3), "0 .. size - 1"),
        (ITEMS, CODES - 1, (4, 3), "0 .. size - 1"),
        (ITEMS, CODES, (4, 3, 2), "codes of shape"),
        (ITEMS[:3], CODES, (4, 3), "codes of shape"),
        (ITEMS, CODES[:, :1], (4,), "2 to 32 levels"),
        (ITEMS, np.zeros((4, 33)), (4,) * 33, "2 to 32 levels"),
    ],
)
def test_a_wrong_index_cannot_be_made(items: tuple, codes: np.ndarray, sizes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemIndex(items, codes, sizes)


def test_round_trip_is_exact(index: ItemIndex, tmp_path: Path) -> None:
    file = tmp_path / "x" / "index.json"
    index.save(file)
    assert json.loads(file.read_text(encoding="utf-8")) == {item: list(index.path(item)) for item in ITEMS}
    loaded = load_index(file, collisions="error", codebook_size=[4, 3])
    assert loaded == index
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_integers(index: ItemIndex, tmp_path: Path) -> None:
    file = tmp_path / "index.json"
    index.save(file, form="integers")
    assert json.loads(file.read_text(encoding="utf-8")) == dict(zip(ITEMS, CODES.tolist(), strict=True))
    assert load_index(file, collisions="error", codebook_size=index.level_sizes) == index
    with pytest.raises(UserError, match="form: expected tokens or integers, found 'pickle'"):
        index.save(file, form="pickle")


@pytest.mark.parametrize("form", ["tokens", "integers"])
@pytest.mark.parametrize("n_levels", range(2, 9))
def test_any_number_of_levels_of_any_size(n_levels: int, form: str, tmp_path: Path) -> None:
    sizes = tuple(range(3, 3 + n_levels))
    rng = np.random.default_rng(0)
    # the highest code of every level is unused: the sizes must come back all the same
    codes = np.unique(np.stack([rng.integers(size - 1, size=40) for size in sizes], axis=1), axis=0)
    index = ItemIndex(tuple(map(str, range(len(codes)))), codes, sizes)
    index.save(tmp_path / "i.json", form=form)
    assert load_index(tmp_path / "i.json", collisions="error", codebook_size=sizes) == index
    assert load_index(tmp_path / "i.json", collisions="error").level_sizes != sizes
    assert len(index.index_tokens()) == sum(sizes) == len(set(index.index_tokens()))


def test_extended_keeps_every_row(index: ItemIndex) -> None:
    longer = index.extended(["new", "newer"], np.array([[1, 1], [1, 2]]))
    assert longer.items == (*ITEMS, "new", "newer") and longer.level_sizes == index.level_sizes
    np.testing.assert_array_equal(longer.codes[:4], index.codes)
    assert longer.path("newer") == ("<a_1>", "<b_2>") and len(index) == 4
    assert index.extended([], np.empty((0, 2))) == index


@pytest.mark.parametrize(
    ("items", "codes", "message"),
    [
        (["new"], [[0, 1]], "4 distinct paths"),
        (["B001"], [[1, 1]], "more than once"),
        (["new"], [[4, 0]], "0 .. size - 1"),
        (["new"], [[1, 1], [1, 2]], "codes of shape"),
        (["new"], [[1, 1, 1]], "codes of shape"),
        (["new"], [1, 1], "codes of shape"),
    ],
)
def test_a_wrong_extension_cannot_be_made(index: ItemIndex, items: list, codes: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        index.extended(items, np.array(codes))


def test_capacity() -> None:
    check_capacity(9, (3, 3))
    with pytest.raises(UserError, match="codebook_size"):
        check_capacity(10, (3, 3))
