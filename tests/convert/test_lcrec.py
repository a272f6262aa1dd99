"""The exchange JSON of LC-Rec, on a small folder and on the real one, whose atomic files are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from raw_files import lines, run, statistics

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import clean_text, read_columns

SHARED = Path(__file__).resolve().parents[3] / "shared" / "datasets"

GOOD: dict[str, Any] = {
    "inter": {"b": [3, "1", 3], "a": [2]},
    "item": {"1": {"title": "One"}, "2": {"title": '"Two" and "2"', "brand": "NaN"}, "3": {"description": "-."}},
    "index": {"1": ["<a_0>", "<b_0>"], "2": ["<a_0>", "<b_0>"]},
    "user": {"user_explicit_preference": {"a": ["likes two"]}},
}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in {**GOOD, **changes}.items():
        if value is not None:
            (folder / f"t.{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.skipif(not (SHARED / "lcrec_json").is_dir(), reason="the shared data sets are not here")
def test_scientific_is_the_known_data_set(tmp_path: Path) -> None:
    status, folder = run("lcrec", SHARED / "lcrec_json" / "Scientific", tmp_path)
    assert status == 0
    known = SHARED / "Scientific"
    assert (folder / "x.inter").read_bytes() == (known / "Scientific.inter").read_bytes()
    written = read_columns(DataFiles(folder, "x"), "item")
    expected = read_columns(DataFiles(known, "Scientific"), "item")
    assert list(written) == list(expected) and written["item_id"] == expected["item_id"]
    assert lines(folder / "x.item")[0] == lines(known / "Scientific.item")[0]
    different = 0
    for name, cells in expected.items():
        assert written[name] == [clean_text(cell) for cell in cells]
        different += sum(one != other for one, other in zip(written[name], cells, strict=True))
    assert different == 6, "three texts without letters or digits, three with what looks like a tag"
    index = SHARED / "lcrec_json" / "Scientific" / "Scientific.index.json"
    assert (folder / "x.index.json").read_bytes() == index.read_bytes()


def test_positions_are_times_and_companions_go_along(tmp_path: Path) -> None:
    status, folder = run("lcrec", write(tmp_path / "in"), tmp_path)
    assert status == 0
    assert lines(folder / "x.inter")[1:] == ["b\t3\t0", "b\t1\t1", "b\t3\t2", "a\t2\t0"]
    assert lines(folder / "x.item")[1:] == ["1\tOne\t\t\t", '2\t"""Two"" and ""2"""\t\tNaN\t', "3\t\t\t\t"]
    assert json.loads((folder / "x.user.json").read_text()) == GOOD["user"]
    assert json.loads((folder / "x.index.json").read_text()) == GOOD["index"]


def test_entries_that_are_no_items_are_counted(tmp_path: Path) -> None:
    inter = {"a": [1, None, 2.5, "x\ty"], "b": 7, "c": [], "NA": [1]}
    status, folder = run("lcrec", write(tmp_path / "in", inter=inter), tmp_path)
    assert status == 0 and lines(folder / "x.inter")[1:] == ["a\t1\t0"]
    counts = statistics(folder)["interactions"]
    assert counts["read"] == 7 and sum(counts["rejected"].values()) == 6 == len(lines(folder / "x.rejected"))
    assert counts["rejected"]["user without a list of items"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inter": None}, "expected one <name>.inter.json, found none"),
        ({"item": None}, "t.item.json does not exist"),
        ({"inter": "{"}, "line 1: not valid JSON"),
        ({"inter": [1]}, "found a JSON list, expected"),
        ({"inter": {}}, "found an empty object"),
        ({"inter": '{"a": [1], "a": [2]}'}, "key 'a' occurs more than once"),
        ({"inter": {"a": 1}}, "no record can be used: user without a list of items"),
        ({"item": {"9": {"title": "x"}}}, "none of its 1 items has interactions"),
        ({"index": {"1": "<a_0>"}}, "item '1': expected a list of index tokens"),
        ({"index": "nonsense"}, "t.index.json, line 1: not valid JSON"),
        ({"user": {"user_explicit_preference": []}}, "t.user.json: expected"),
    ],
)
def test_malformed_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    status, folder = run("lcrec", write(tmp_path / "in", **changes), tmp_path / "out")
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1, error
    assert not folder.exists()
