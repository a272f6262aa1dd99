"""Own tables: formats, separators, column maps, dates, and broken rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from raw_files import lines, run, statistics, write_csv

COLUMNS = "--columns=user=customer,item=sku,time=when,rating=stars"
ITEM_COLUMNS = "--item-columns=item=sku,title=name,notes=details"
SALES: list[list[Any]] = [
    ["when", "customer", "sku", "stars"],
    ["2024-05-31T12:00:00+02:00", "c 1", "s1", 4.5],
    ["2024-05-31", "c 1", "s2", 3],
    ["2024-05-30T00:00:00.5Z", "c 2", "s1", 1],
]
ITEMS: list[list[Any]] = [["name", "sku", "details"], ['Saw, "big"', "s1", "two\nlines"], ["Nail", "s2", None]]
EXPECTED = ["c 1\ts2\t1717113600\t3", "c 1\ts1\t1717149600\t4.5", "c 2\ts1\t1717027200.5\t1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
def test_text_tables(tmp_path: Path, delimiter: str) -> None:
    sales = write_csv(tmp_path / "sales.txt", SALES, delimiter)
    items = write_csv(tmp_path / "items.txt", ITEMS, delimiter)
    options = [COLUMNS, f"--items={items}", ITEM_COLUMNS]
    options += ["--separator=^"] if delimiter == "^" else []
    status, folder = run("table", sales, tmp_path, *options)
    assert status == 0
    assert lines(folder / "x.inter") == ["user_id:token\titem_id:token\ttimestamp:float\trating:float", *EXPECTED]
    assert lines(folder / "x.item") == [
        "item_id:token\ttitle:token_seq\tnotes:token_seq", 's1\tSaw, "big"\ttwo lines', "s2\tNail\t",
    ]  # fmt: skip


def test_parquet_tables(tmp_path: Path) -> None:
    sales = pd.DataFrame([*SALES[1:], [None, 3, "s1", 2.0]], columns=SALES[0])
    sales["when"] = pd.to_datetime(sales["when"], utc=True, format="ISO8601")
    sales["customer"] = [1, 1, 2, None]  # so they are stored as floats
    sales.to_parquet(tmp_path / "sales.parquet")
    items = pd.DataFrame({"sku": ["s1", "s2"], "name": ["Saw", None], "details": [["a", "b"], []]})
    items.to_parquet(tmp_path / "items.parquet")
    options = [COLUMNS, f"--items={tmp_path / 'items.parquet'}", ITEM_COLUMNS]
    status, folder = run("table", tmp_path / "sales.parquet", tmp_path, *options)
    assert status == 0
    assert lines(folder / "x.inter")[1:] == [line.replace("c ", "") for line in EXPECTED]
    assert lines(folder / "x.item")[1:] == ["s1\tSaw\ta, b", "s2\t\t"]
    assert statistics(folder)["interactions"]["rejected"] == {"no user": 1}


def test_default_columns_and_reviews(tmp_path: Path) -> None:
    rows = [["user_id", "item_id", "timestamp", "text"], ["u", "i", 5, "well\nmade"], ["u", "j", 4, ""]]
    sales = write_csv(tmp_path / "sales.csv", rows)
    items = write_csv(tmp_path / "items.csv", [["item_id", "title"], ["i", "I"], ["j", "J"]])
    assert run("table", sales, tmp_path, f"--items={items}")[0] == 0
    columns = "--columns=user=user_id,item=item_id,time=timestamp,review=text"
    status, folder = run("table", sales, tmp_path, "--items=none", columns, "--reviews", "--overwrite")
    assert status == 0 and lines(folder / "x.review")[1:] == ["u\ti\twell made"]
    assert lines(folder / "x.inter") == ["user_id:token\titem_id:token\ttimestamp:float", "u\tj\t4", "u\ti\t5"]
    assert not (folder / "x.item").exists()


def test_broken_rows_cost_only_themselves(tmp_path: Path) -> None:
    sales = tmp_path / "sales.csv"
    content = (
        b'\xef\xbb\xbfuser_id,item_id,timestamp\nu1,i1,1\n"u2"x,i1,2\n\nu3,i1\nu\xff,i1,3\nu4,"i\n1",4\nu5,i1,5\n'
    )
    sales.write_bytes(content + b'u6,i1,2024-01-01\n"u7",i1,1e400\nu8,i1,1_0\nu9,i1,9007199254740994\n')
    status, folder = run("table", sales, tmp_path, "--items=none")
    assert status == 0
    assert lines(folder / "x.inter")[1:] == ["u1\ti1\t1", "u5\ti1\t5"]
    rejected = [line.split("\t", 2) for line in (folder / "x.rejected").read_bytes().decode("latin1").splitlines()]
    assert [(where.removeprefix("sales.csv:"), line) for where, _, line in rejected] == [
        ("3", '"u2"x,i1,2'), ("5", "u3,i1"), ("6", "u\xff,i1,3"), ("7", 'u4,"i\\n1",4'), ("10", "u6,i1,2024-01-01"),
        ("11", '"u7",i1,1e400'), ("12", "u8,i1,1_0"), ("13", "u9,i1,9007199254740994"),
    ]  # fmt: skip
    counts = statistics(folder)["interactions"]
    assert counts["read"] == 10 == counts["written"] + sum(counts["rejected"].values()) and counts["blank_lines"] == 1
    status, folder = run("table", sales, tmp_path, "--items=none", "--no-quotes", "--overwrite")
    assert status == 0 and '"u2"x' not in (folder / "x.inter").read_text()


def test_dates_before_1970_and_naive_ones_are_utc(tmp_path: Path) -> None:
    rows = [["user_id", "item_id", "timestamp"], ["u", "i", "1969-12-31T23:59:59"], ["u", "j", "20240531"]]
    status, folder = run("table", write_csv(tmp_path / "s.csv", rows), tmp_path, "--items=none")
    assert status == 0 and lines(folder / "x.inter")[1:] == ["u\ti\t-1"]
    assert statistics(folder)["interactions"]["rejected"] == {"time is a number among dates": 1}
    assert datetime.fromtimestamp(1717113600, UTC).isoformat() == "2024-05-31T00:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--items=FILE is missing"),
        (["--items=none"], "no column user_id. Found: customer, sku, when"),
        (["--items=none", "--columns=user=custmer,item=sku,time=when"], "Did you mean 'customer'?"),
        (["--items=none", "--columns=user=customer,item=sku"], "--columns: time=COLUMN missing"),
        (["--items=none", "--columns=user"], "expected name=column pairs"),
        (["--items=none", "--columns=user=a,user=b"], "user is given twice"),
        (["--items=none", "--columns=usr=customer,item=sku,time=when"], "unknown name usr. Did you mean 'user'?"),
        (["--items=none", "--separator=ab"], "expected one character, or tab"),
        (["--items=none", "--min-rating=3", "--columns=user=customer,item=sku,time=when"], "has no ratings"),
        (["--items=none", "--reviews", "--columns=user=customer,item=sku,time=when"], "no review texts"),
        (
            ["--items=none", "--item-columns=item=sku", "--columns=user=customer,item=sku,time=when"],
            "there is no table of items",
        ),
        (["--items=nothing.csv", "--columns=user=customer,item=sku,time=when"], "nothing.csv does not exist"),
        (["--items={sales}", "--columns=user=customer,item=sku,time=when"], "no column item_id"),
        (["--items={sales}", "--columns=user=customer,item=sku,time=when", "--item-columns=title=sku"], "item=COLUMN"),
        (
            ["--items={sales}", "--columns=user=customer,item=sku,time=when", "--item-columns=item=sku"],
            "which columns",
        ),
        (
            ["--items={sales}", "--columns=user=customer,item=sku,time=when", "--item-columns=item=sku,a:b=sku"],
            "'a:b'",
        ),
    ],
)
def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    sales = write_csv(tmp_path / "sales.csv", [["customer", "sku", "when"], ["c", "s", 1]])
    status, folder = run("table", sales, tmp_path / "out", *(option.format(sales=sales) for option in options))
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1, error
    assert not folder.exists()


def test_one_number_before_many_dates_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ["user_id", "item_id", "timestamp"],
        ["u", "i", "2024"],
        ["u", "i", "2024-01-01"],
        ["u", "i", "2024-01-02"],
    ]
    status, _ = run("table", write_csv(tmp_path / "s.csv", rows), tmp_path, "--items=none")
    assert status == 2 and "the first time is a number, but most are dates" in capsys.readouterr().err
