"""Index files of others, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.index import load_index
from recbole_lcrec.utils.errors import UserError

DATASETS = Path(__file__).resolve().parents[3] / "shared" / "datasets"
GOOD = {"x": ["<a_1>", "<b_0>"], "y": ["<a_1>", "<b_5>"]}


def write(folder: Path, value: Any) -> Path:
    path = folder / "t.index.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_level_sizes_cover_file_and_option(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert load_index(path, collisions="error").level_sizes == (2, 6)
    assert load_index(path, collisions="error", codebook_size=4).level_sizes == (4, 6)
    assert load_index(path, collisions="error", codebook_size=[8, 9]).level_sizes == (8, 9)


def test_extra_items_are_kept(tmp_path: Path) -> None:
    index = load_index(write(tmp_path, GOOD), collisions="error", required_items=["y"])
    assert index.items == ("x", "y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ('{\n"x": ["<a_1>", "<b_0>"],\n}', "line 2|line 3"),
        ("[1, 2]", "found a JSON list, expected an object"),
        ("{}", "holds no items"),
        ({**GOOD, "z": "<a_1><b_0>"}, "item 'z'.*expected a list"),
        ({**GOOD, "z": ["<a_1>", 3]}, "item 'z'.*found 3 at position 2, an integer.*began with index tokens"),
        ({**GOOD, "z": [1, 3]}, "item 'z'.*found 1 at position 1, an integer"),
        ({**GOOD, "z": ["<a_1>", None]}, "item 'z'.*found null at position 2.*<b_12>"),
        ({**GOOD, "z": ["<A_1>", "<b_3>"]}, "item 'z'.*position 1"),
        ({**GOOD, "z": [" <a_1>", "<b_3>"]}, "item 'z'.*position 1"),
        ({**GOOD, "z": ["<a_1.0>", "<b_3>"]}, "item 'z'.*position 1"),
        ({**GOOD, "z": ["<b_1>", "<a_3>"]}, "item 'z'.*found \"<b_1>\" at position 1.*<a_12>"),
        ({"x": [1, 0], "z": [1, "<b_3>"]}, "item 'z'.*found \"<b_3>\" at position 2, an index token.*with integers"),
        ({"x": [1, 0], "z": [1, -3]}, "item 'z'.*found -3 at position 2.*level 2, counted from 0"),
        ({"x": [1, 0], "z": [1, 3.0]}, "item 'z'.*found 3.0 at position 2.*whole number"),
        ({"x": [1, 0], "z": [1, True]}, "item 'z'.*found true at position 2.*whole number"),
        ({"x": [1, 0], "z": [1, 65536]}, "item 'z'.*found code 65536, expected at most 65535"),
        ({"x": [1, 0], "z": [1]}, "item 'z'.*path of 1 codes, expected 2"),
        ({"x": 5}, "item 'x'.*found 5, expected a list"),
        ({**GOOD, "z": ["<a_1>", "b_3"]}, "item 'z'.*found \"b_3\" at position 2"),
        ({**GOOD, "z": ["<a_1>", "<b_-3>"]}, "item 'z'.*position 2"),
        ({**GOOD, "z": ["<a_01>", "<b_3>"]}, "item 'z'.*position 1"),
        ({**GOOD, "z": ["<a_1>", "<c_3>"]}, "item 'z'.*found \"<c_3>\" at position 2.*<b_12>"),
        ({**GOOD, "z": ["<a_1>", "<b_99999999>"]}, "item 'z'.*expected at most 65535"),
        ({**GOOD, "z": ["<a_1>", "<b_0>", "<c_0>"]}, "item 'z'.*path of 3 codes, expected 2 as for item 'x'"),
        ({"x": ["<a_1>"]}, "item 'x'.*path of 1 codes, expected 2 to 32"),
        ({"x": []}, "item 'x'.*path of 0 codes"),
        ('{"x": ["<a_1>", "<b_0>"], "x": ["<a_1>", "<b_1>"]}', "item 'x' occurs more than once"),
    ],
)
def test_a_bad_file_is_a_message_that_names_it(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        load_index(path, collisions="error")
    assert str(path) in str(caught.value)


def test_integers_are_codes_per_level(tmp_path: Path) -> None:
    tokens = load_index(write(tmp_path, GOOD), collisions="error")
    assert load_index(write(tmp_path, {"x": [1, 0], "y": [1, 5]}), collisions="error") == tokens
    # numbers that run on from level to level are taken as they are: a file cannot tell
    assert load_index(write(tmp_path, {"x": [1, 256]}), collisions="error", codebook_size=256).level_sizes == (
        256,
        257,
    )


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_index(tmp_path / "none.json", collisions="error")
    with pytest.raises(UserError, match="cannot be read"):
        load_index(tmp_path, collisions="error")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(UserError, match="cannot be read"):
        load_index(tmp_path / "b.json", collisions="error")


def test_missing_items_are_counted(tmp_path: Path) -> None:
    required = ["x", *map(str, range(7))]
    with pytest.raises(UserError, match=r"7 of the data set's 8 items have no path \('0', '1', '2', '3', '4', ...\)"):
        load_index(write(tmp_path, GOOD), collisions="resolve", required_items=required)


def test_sizes_for_another_number_of_levels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codebook_size: found sizes of 3 levels"):
        load_index(write(tmp_path, GOOD), collisions="error", codebook_size=[2, 2, 2])


def test_collisions_are_refused_or_resolved(tmp_path: Path) -> None:
    path = write(tmp_path, {**GOOD, "z": GOOD["x"], "w": GOOD["x"]})
    with pytest.raises(
        UserError, match=r"4 items have only 2 distinct.*50.00%.*'x' and 'z'.*index_collisions=resolve"
    ):
        load_index(path, collisions="error")
    index = load_index(path, collisions="resolve")
    assert index.path("x") == ("<a_1>", "<b_0>") and index.path("y") == ("<a_1>", "<b_5>")
    assert {index.path("z"), index.path("w")} == {("<a_1>", "<b_1>"), ("<a_1>", "<b_2>")}
    assert load_index(path, collisions="resolve") == index


def test_more_items_than_the_files_codes_can_tell_apart(tmp_path: Path) -> None:
    path = write(tmp_path, {str(i): ["<a_0>", "<b_0>"] for i in range(3)})
    with pytest.raises(UserError, match="codebook_size"):
        load_index(path, collisions="resolve")
    assert len(load_index(path, collisions="resolve", codebook_size=2)) == 3


@pytest.mark.parametrize(
    ("name", "n_items", "n_distinct"),
    [("Games/Games.index.json", 16859, 16717), ("lcrec_json/Scientific/Scientific.index.json", 4344, 3790)],
)
def test_published_files(
    name: str, n_items: int, n_distinct: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = DATASETS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with pytest.raises(UserError, match=f"{n_items} items have only {n_distinct} distinct paths"):
        load_index(path, collisions="error", codebook_size=256)
    with caplog.at_level("WARNING"):
        index = load_index(path, collisions="resolve", codebook_size=256)
    assert f"{n_items} items have only {n_distinct} distinct paths" in caplog.text
    assert f"{n_items - n_distinct} items got free paths" in caplog.text
    raw = json.loads(path.read_text(encoding="utf-8"))
    changed = [item for item in index.items if list(index.path(item)) != raw[item]]
    assert len(index) == n_items and len(changed) == n_items - n_distinct
    assert all(list(index.path(item))[:-1] == raw[item][:-1] for item in changed)
    assert len(np.unique(index.codes, axis=0)) == n_items
    index.save(tmp_path / "i.json")
    assert load_index(tmp_path / "i.json", collisions="error", codebook_size=256) == index
