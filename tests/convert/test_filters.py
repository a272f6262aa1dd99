"""Filters and order against plain Python, the accounts, and the ids and texts that RecBole would misread."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from raw_files import lines, old_review, random_rows, run, statistics, write_csv, write_lines

from recbole_lcrec.convert import columns, pipeline, records, selection
from recbole_lcrec.convert.records import clean, csv_cell
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import load_item_text
from recbole_lcrec.utils.locks import sole_lock

COLUMNS = "--columns=user=user,item=item,time=time,rating=rating"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every block so small that thousands of rows need hundreds of them."""
    for module in (columns, selection, pipeline):
        monkeypatch.setattr(module, "CHUNK", 64)
    monkeypatch.setattr(columns, "BLOCK", 100)
    monkeypatch.setattr(selection, "SORTED_ROWS", 50)


def plain(rows: list[tuple[str, str, int, float]], minimum: float, which: str, k: int) -> list[str]:
    """Do in plain Python what the converter is to do."""
    rows = [row for row in rows if row[3] >= minimum]
    first_seen = {user: place for place, user in reversed(list(enumerate(row[0] for row in rows)))}
    ordered = sorted(rows, key=lambda row: (first_seen[row[0]], row[2]))
    if which != "keep":
        chosen = {}
        for place, row in enumerate(ordered):
            if which == "last" or row[:2] not in chosen:
                chosen[row[:2]] = place
        ordered = [ordered[place] for place in sorted(chosen.values())]
    while k:
        users, items = Counter(row[0] for row in ordered), Counter(row[1] for row in ordered)
        left = [row for row in ordered if users[row[0]] >= k and items[row[1]] >= k]
        if len(left) == len(ordered):
            break
        ordered = left
    return [f"{user}\t{item}\t{time}\t{rating:g}" for user, item, time, rating in ordered]


@pytest.mark.parametrize("minimum", [0, 3])
@pytest.mark.parametrize("which", ["keep", "first", "last"])
@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.usefixtures("small_pieces")
def test_filters_equal_plain_python(tmp_path: Path, minimum: float, which: str, k: int) -> None:
    rows = random_rows()
    # one user has more rows than are sorted at once, and first appearance counts all rows
    rows = [("u1", "i1", 0, 5.0)] * 200 + rows
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], *map(list, rows)])
    options = [COLUMNS, "--items=none", f"--min-rating={minimum}", f"--duplicates={which}", f"--k-core={k}"]
    status, folder = run("table", source, tmp_path, *options)
    assert status == 0
    written = lines(folder / "x.inter")[1:]
    if minimum:  # users are in the order in which they first appear, be it with a low rating
        assert sorted(written) == sorted(plain(rows, minimum, which, k))
    else:
        assert written == plain(rows, minimum, which, k)
    counts = statistics(folder)["interactions"]
    removed = counts["below_min_rating"] + counts["repeated_pairs"] + counts["outside_k_core"]
    assert counts["read"] == len(rows) == removed + counts["written"] and counts["written"] == len(written)
    assert statistics(folder)["users"] == len({line.split("\t")[0] for line in written})


@pytest.mark.usefixtures("small_pieces")
def test_pieces_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], *map(list, random_rows())])
    options = [COLUMNS, "--items=none", "--k-core=2", "--duplicates=last"]
    _, folder = run("table", source, tmp_path / "small", *options)
    monkeypatch.undo()
    _, other = run("table", source, tmp_path / "large", *options)
    assert (folder / "x.inter").read_bytes() == (other / "x.inter").read_bytes()


def test_two_ids_with_one_key_are_never_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], *map(list, random_rows(n=50))])
    original = pd.util.hash_array

    def colliding(values: Any, hash_key: str, categorize: bool) -> Any:
        keys = original(values, hash_key=hash_key, categorize=categorize)
        return keys % 2 if hash_key == columns._KEYS[0] else keys

    monkeypatch.setattr(pd.util, "hash_array", colliding)
    with pytest.raises(RuntimeError, match="same 64-bit key"):
        run("table", source, tmp_path / "out", COLUMNS, "--items=none")
    assert list((tmp_path / "out").iterdir()) == []


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    bad = ["{broken", '"text"', {"reviewerID": "A", "asin": "B"}, old_review("NA", "B000000001", 1), "",
           old_review("A\t1", "B000000001", 1), old_review("A", "B1", "soon"), old_review("", "B1", 1),  # type: ignore[arg-type]
           old_review("A", "\ud800", 1), old_review('"A"', "B1", 1), old_review("[PAD]", "B1", 1)]  # fmt: skip
    good = [old_review(f"A{n % 7}", f"B00000000{n % 3}", n) for n in range(40)]
    reviews = write_lines(
        tmp_path / "r.json", [item for pair in zip(good, bad, strict=False) for item in pair] + good[11:]
    )
    meta = write_lines(tmp_path / "m.json", [{"asin": "B000000000"}, "{", {"title": "x"}, {"asin": "B9"}])
    status, folder = run("amazon2018", reviews, tmp_path, f"--meta={meta}", "--min-rating=1", "--duplicates=last")
    assert status == 0
    found = statistics(folder)
    counts, items = found["interactions"], found["item_records"]
    assert counts["read"] == 50 and counts["blank_lines"] == 1
    n_rejected = sum(counts["rejected"].values())
    assert n_rejected == 10 and counts["repeated_pairs"] == 40 - 21 and counts["written"] == 21
    assert items["read"] == 4 == sum(items["rejected"].values()) + items["written"] + items["without_interactions"]
    assert found["items_without_metadata"] == ["B000000001", "B000000002"]
    rejected = lines(folder / "x.rejected")
    assert len(rejected) == n_rejected + 2
    assert rejected[0] == "r.json:2\tnot valid JSON\t{broken"
    source = reviews.read_text().splitlines()
    for line in rejected[:n_rejected]:
        where, reason, text = line.split("\t", 2)
        assert source[int(where.removeprefix("r.json:")) - 1] == text and reason in counts["rejected"]
    assert rejected[-2:] == ["m.json:2\tnot valid JSON\t{", 'm.json:3\tno asin\t{"title": "x"}']


def test_words_that_pandas_reads_as_missing_are_known() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(STR_NA_VALUES) - {""} == records.MISSING_WORDS


TEXTS = ['"Foo" and "Bar"', '"open', 'close"', '5" disc', "a\tb\r\nc\0d"]
TEXTS += ['"', '""', "&quot;x&quot;", "Tom &amp; J", "½ <b>x</b>"]


def test_texts_read_back_by_pandas_and_by_us(tmp_path: Path) -> None:
    items = [{"asin": f"B{n}", "title": text, "brand": text} for n, text in enumerate(TEXTS)]
    reviews = write_lines(tmp_path / "r.json", [old_review("A 'x", f"B{n}", n) for n in range(len(TEXTS))])
    meta = write_lines(tmp_path / "m.json", items)
    status, folder = run("amazon2018", reviews, tmp_path, f"--meta={meta}")
    assert status == 0
    expected = [clean(text) for text in TEXTS]
    assert expected[:5] == ['"Foo" and "Bar"', '"open', 'close"', '5" disc', "a b c d"]
    read = pd.read_csv(folder / "x.item", delimiter="\t", engine="python", keep_default_na=False)
    assert read["title:token_seq"].tolist() == expected == read["brand:token"].tolist()
    ours = load_item_text(DataFiles(folder, "x"), [], ["title"])
    assert list(ours.titles) == [clean(csv_cell(text)) if text[:1] != '"' else text for text in expected]
    inter = pd.read_csv(folder / "x.inter", delimiter="\t", engine="python")
    assert set(inter["user_id:token"]) == {"A 'x"}


def test_nothing_left_and_wrong_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], ["u", "i", 1, 1]])
    for option, message in [
        ("--k-core=2", "nothing is left of 1 interactions of 1 users with 1 items: below min rating 0"),
        ("--k-core=-1", "--k-core=-1: expected 0"),
        ("--min-rating=2", "below min rating 1"),
        ("--min-rating=nan", "expected a number"),
        ("--name=a/b", "not the name of a data set"),
        ("--name=", "not the name of a data set"),
    ]:
        status, _ = run("table", source, tmp_path / "out", COLUMNS, "--items=none", option)
        error = capsys.readouterr().err
        assert status == 2 and message in error and error.count("\n") == 1, error
    for argv in (
        ["amazon2019"],
        ["table"],
        ["table", str(source), "--name=x", "--k-core=many"],
        ["table", "--meta=x"],
    ):
        with pytest.raises(SystemExit) as caught:
            pipeline_main(argv)
        assert caught.value.code == 2


def pipeline_main(argv: list[str]) -> int:
    from recbole_lcrec.convert.__main__ import main

    return main(argv)


def test_existing_files_are_kept_or_replaced_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], ["u", "i", 1, 1]])
    folder = tmp_path / "x"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / "x.npy").write_text("mine")
    options = [COLUMNS, "--items=none"]
    assert run("table", source, tmp_path, *options)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["notes", "x.inter", "x.npy", "x.statistics.json"]
    (folder / "x.review").write_text("old")
    before = (folder / "x.inter").read_bytes()
    assert run("table", source, tmp_path, *options)[0] == 2
    assert "holds x.inter, x.review, x.statistics.json already. Give --overwrite" in capsys.readouterr().err
    source.write_text("user,item,time,rating\nu,i,1,1\nu,i\n")
    assert run("table", source, tmp_path, *options, "--overwrite", "--k-core=5")[0] == 2
    assert (folder / "x.inter").read_bytes() == before and (folder / "x.review").exists(), "a failure changes nothing"
    assert run("table", source, tmp_path, *options, "--overwrite")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "notes", "x.inter", "x.npy", "x.rejected", "x.statistics.json",
    ]  # fmt: skip
    assert (folder / "notes" / "a.txt").read_text() == "mine" and (folder / "x.npy").read_text() == "mine"
    assert json.loads((folder / "x.statistics.json").read_text())["users"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "x"], "no temporary folder is left"


def test_what_a_killed_conversion_moved_aside_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_csv(tmp_path / "r.csv", [["user", "item", "time", "rating"], ["u", "i", 1, 1]])
    options = [COLUMNS, "--items=none"]
    assert run("table", source, tmp_path, *options)[0] == 0
    (tmp_path / "x" / "notes.txt").write_text("mine")
    moved = tmp_path / ".x.0123abcd.old"
    moved.mkdir()
    (tmp_path / "x").rename(moved / "x")  # killed between the two renames, with a folder that was being written
    (tmp_path / ".x.4567cdef").mkdir()
    with sole_lock(tmp_path / ".x.lock", "x", "conversion", "another name"):
        assert run("table", source, tmp_path, *options)[0] == 2
        assert "x: another conversion is writing there (process " in capsys.readouterr().err
        assert moved.exists()
    assert run("table", source, tmp_path, *options)[0] == 2
    assert "holds x.inter, x.statistics.json already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "x"]
    assert run("table", source, tmp_path, *options, "--overwrite")[0] == 0
    assert (tmp_path / "x" / "notes.txt").read_text() == "mine"
