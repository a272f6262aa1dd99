"""The three Amazon releases: files found, fields read, order, texts, and files of another release refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from raw_files import lines, new_review, old_review, run, statistics, write_lines

META_2014 = [
    "{'asin': 'B000000001', 'title': \"Saw &amp; file\", 'categories': [['Tools', 'Saws'], ['Tools', 'Hand']], "
    "'description': 'Cuts <b>wood</b>\\n well', 'brand': None, 'price': 3.5, 'related': {'also': ['x']}}",
    "{'asin': 'B000000002', 'title': 'Nail \\ud83d\\ude00'}",
]


def test_2014_python_literals_and_gzip(tmp_path: Path) -> None:
    reviews = [
        "broken",
        old_review("A1", "B000000002", 30),
        str(old_review("A2", "B000000001", 20, 3.5)),  # a Python literal, as in the loose files
        old_review("A1", "B000000001", 10, 4.0),
    ]
    write_lines(tmp_path / "in" / "reviews_Tools_5.json.gz", reviews, packed=True)
    write_lines(tmp_path / "in" / "meta_Tools.json.gz", META_2014, packed=True)
    status, folder = run("amazon2014", tmp_path / "in", tmp_path)
    assert status == 0
    assert lines(folder / "x.inter") == [
        "user_id:token\titem_id:token\ttimestamp:float\trating:float",
        "A1\tB000000001\t10\t4",
        "A1\tB000000002\t30\t5",
        "A2\tB000000001\t20\t3.5",
    ]
    assert lines(folder / "x.item") == [
        "item_id:token\ttitle:token_seq\tdescription:token_seq\tbrand:token\tcategories:token_seq",
        "B000000001\tSaw & file\tCuts wood well\t\tTools, Saws, Hand",
        "B000000002\tNail 😀\t\t\t",
    ]
    assert {path.name for path in folder.iterdir()} == {"x.inter", "x.item", "x.rejected", "x.statistics.json"}
    assert statistics(folder)["files"] == {"interactions": "reviews_Tools_5.json.gz", "items": "meta_Tools.json.gz"}


def test_2018_lists_and_repeated_metadata(tmp_path: Path) -> None:
    reviews = [
        old_review("A1", "B000000001", 86400, text="good"),
        old_review("A1", "B000000003", 86400, text="&nbsp;"),
    ]
    meta: list[Any] = [
        {"asin": "B000000001", "title": "Pen", "description": ["Blue.", "", "Fine."], "category": ["Office", "Pens"],
         "brand": "by\n    \n    Acme"},
        {"asin": "B000000001", "title": "Pen again"},
        {"asin": "B000000003", "title": "var aPageStart = (new Date()).getTime();", "description": []},
        {"asin": "B000000009", "title": "unsold"},
    ]  # fmt: skip
    reviews_file = write_lines(tmp_path / "Office.json", reviews)
    meta_file = write_lines(tmp_path / "meta_Office.json", meta)
    status, folder = run("amazon2018", reviews_file, tmp_path, f"--meta={meta_file}", "--reviews")
    assert status == 0
    assert lines(folder / "x.item")[1:] == ["B000000001\tPen\tBlue. Fine.\tAcme\tOffice, Pens", "B000000003\t\t\t\t"]
    assert lines(folder / "x.review") == [
        "user_id:token\titem_id:token\treview:token_seq", "A1\tB000000001\tgood",
    ]  # fmt: skip
    found = statistics(folder)
    assert found["item_records"] == {
        "read": 4, "blank_lines": 0, "rejected": {}, "repeated": 1, "without_interactions": 1, "written": 2,
    }  # fmt: skip
    assert found["reviews"] == {"written": 1, "without_text": 1}
    assert found["text_coverage"] == {"title": 0.5, "description": 0.5, "brand": 0.5, "categories": 0.5}
    status, folder = run("amazon2018", reviews_file, tmp_path, f"--meta={meta_file}", "--all-items", "--overwrite")
    assert status == 0 and lines(folder / "x.item")[-1] == "B000000009\tunsold\t\t\t"
    assert not (folder / "x.review").exists(), "files of the earlier conversion go"


def test_2023_parent_products_and_milliseconds(tmp_path: Path) -> None:
    reviews = [new_review("AE", "B000000001", 1588687728923), new_review("AE", "B000000002", 1588687728001)]
    meta: list[Any] = [
        {"parent_asin": "B000000001", "title": "Lamp", "description": ["Warm", "light"], "categories": ["Home"],
         "store": "Acme", "details": {"Brand": "Other"}},
        {"parent_asin": "B000000002", "title": "Bulb", "description": [], "categories": [], "store": None,
         "details": {"Brand": "Osrom"}},
    ]  # fmt: skip
    write_lines(tmp_path / "in" / "Home.jsonl", reviews)
    write_lines(tmp_path / "in" / "meta_Home.jsonl", meta)
    status, folder = run("amazon2023", tmp_path / "in", tmp_path)
    assert status == 0
    assert lines(folder / "x.inter")[1:] == ["AE\tB000000002\t1588687728001\t5", "AE\tB000000001\t1588687728923\t5"]
    assert lines(folder / "x.item")[1:] == ["B000000001\tLamp\tWarm light\tAcme\tHome", "B000000002\tBulb\t\tOsrom\t"]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("amazon2014", ["A1,B000000001,5.0,20", "A1,B000000002,4.0,10"]),
        ("amazon2018", ["B000000001,A1,5.0,20", "B000000002,A1,4.0,10"]),
        ("amazon2023", ["user_id,parent_asin,rating,timestamp", "A1,B000000001,5.0,20", "A1,B000000002,4.0,10"]),
        ("amazon2023", ["user_id,parent_asin,rating,timestamp,history", "A1,B000000001,5,20,", "A1,B000000002,4,10,"]),
        ("amazon2018", ["userId,asin,overall,timestamp", "A1,B000000001,5.0,20", "A1,B000000002,4.0,10"]),
    ],
)  # fmt: skip
def test_ratings_files(tmp_path: Path, kind: str, rows: list[str]) -> None:
    given = write_lines(tmp_path / "ratings.csv.gz", rows, packed=True)
    status, folder = run(kind, given, tmp_path, "--meta=none")
    assert status == 0
    assert lines(folder / "x.inter")[1:] == ["A1\tB000000002\t10\t4", "A1\tB000000001\t20\t5"]
    assert not (folder / "x.item").exists()


@pytest.mark.parametrize(
    ("kind", "name", "rows", "message"),
    [
        ("amazon2014", "r.csv", ["B000000001,A1,5.0,20"], "give that kind|order of amazon2018"),
        ("amazon2018", "r.csv", ["A1,B000000001,5.0,20"] * 200, "order of amazon2014"),
        ("amazon2014", "r.json", [new_review("A", "B000000001", 1)], "fields are those of amazon2023"),
        ("amazon2023", "r.json", [old_review("A", "B000000001", 1)], "fields are those of amazon2014 or amazon2018"),
        ("amazon2018", "r.json", [{"asin": "x", "title": "y"}] * 3, "no reviewerID (3 times, first at 1)"),
        ("amazon2018", "r.json", ["{"] * 5000, "none of the first 1000 records can be used: not valid JSON"),
        ("amazon2018", "r.json", ["["], "a JSON array"),
        ("amazon2018", "r.json", [], "is empty"),
        ("amazon2018", "r.csv", ["a,b,c,d", "1,2,3,4"], "line 1: no column for the user"),
        ("amazon2018", "r.zip", ["PK\x03\x04"], "a zip archive"),
    ],
)
def test_the_wrong_file_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, rows: list[Any], message: str
) -> None:
    given = write_lines(tmp_path / name, rows)
    status, folder = run(kind, given, tmp_path / "out", "--meta=none")
    error = capsys.readouterr().err
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert any(part in error for part in message.split("|")), error
    assert not folder.exists()


def test_a_damaged_archive_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = write_lines(tmp_path / "r.json", [old_review(f"A{n}", "B000000001", n) for n in range(20_000)])
    given.write_bytes(gzip.compress(given.read_bytes())[:-200])
    status, folder = run("amazon2018", given, tmp_path / "out", "--meta=none")
    error = capsys.readouterr().err
    assert status == 2 and "damaged or cut off" in error and "after line 0" not in error, error
    assert list((tmp_path / "out").iterdir()) == []


def test_folders_that_cannot_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    write_lines(folder / "Office.json", [old_review("A", "B000000001", 1)])
    assert run("amazon2018", folder, tmp_path)[0] == 2
    assert "no file with metadata" in capsys.readouterr().err
    write_lines(folder / "meta_Office.json", [{"asin": "B000000007"}])
    assert run("amazon2018", folder, tmp_path)[0] == 2
    assert "none of its 1 items has interactions" in capsys.readouterr().err
    write_lines(folder / "Office.csv", ["B000000001,A1,5.0,20"])
    assert run("amazon2018", folder, tmp_path)[0] == 2
    assert "several files with reviews or ratings: Office.csv, Office.json" in capsys.readouterr().err
    assert run("amazon2018", folder / "Office.json", tmp_path)[0] == 2
    assert "name its metadata too" in capsys.readouterr().err
    given = [folder / "Office.csv", tmp_path, "--meta=none", "--reviews"]
    assert run("amazon2018", *given)[0] == 2  # type: ignore[arg-type]
    assert "no review texts" in capsys.readouterr().err
