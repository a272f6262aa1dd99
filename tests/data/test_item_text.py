"""Item text is read as text, cleaned, and joined with the items that interactions name."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import clean_text, load_item_text
from recbole_lcrec.utils.errors import UserError

FIELDS = ["title", "name", "description", "brand"]


def item_file(folder: Path, *lines: str) -> DataFiles:
    files = DataFiles(folder, "toy")
    files.path("item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a \u00a0 b\t c ", "a b c"),
        ("Nuts &amp;amp; Bolts &lt;3&quot;", 'Nuts & Bolts <3"'),
        ("<b>Bold</b><br/>move", "Bold move"),
        ('"says ""hi"" twice"', 'says "hi" twice'),
        ("-- ... --", ""),
        ("5 < 6 and 7", "5 < 6 and 7"),
        ('"Foo" and "Bar"', '"Foo" and "Bar"'),
        ("<!-- note --><p class='x'>Text</p>", "Text"),
        ("Amélie 天気", "Amélie 天気"),
    ],
)
def test_clean_text(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


def test_first_present_field_is_the_title_and_the_others_describe(tmp_path: Path) -> None:
    files = item_file(
        tmp_path, "item_id:token\tbrand:token\ttitle:token_seq", "1\tAcme\tBig saw", "2\t-\t...", '3\tBob\t"Nail"'
    )
    text = load_item_text(files, ["2", "9"], FIELDS)
    assert text.items == ("1", "2", "3", "9")  # .item order, then what only interactions name
    assert text.titles == ("Big saw", "", "Nail", "")
    assert text.descriptions == ("Acme", "", "Bob", "")
    assert text.documents() == ["Big saw Acme", "", "Nail Bob", ""]


def test_without_cold_items_the_file_is_cut_to_what_interactions_name(tmp_path: Path) -> None:
    files = item_file(tmp_path, "item_id:token\ttitle:token_seq", "1\tone", "2\ttwo", "3\tthree", "2\tagain")
    text = load_item_text(files, ["3", "9", "2"], FIELDS, cold_items=False)
    assert text.items == ("2", "3", "9") and text.titles == ("two", "three", "")


def test_messages_name_file_line_and_columns(tmp_path: Path) -> None:
    files = item_file(tmp_path, "item_id:token\ttitle:token_seq", "1\tone", "2\ttwo\textra")
    with pytest.raises(UserError, match=r"toy\.item, line 3: found 3 cells, expected 2"):
        load_item_text(files, ["1"], FIELDS)
    files = item_file(tmp_path, "item_id:token\tprice:float", "1\t3.5")
    with pytest.raises(UserError, match="none of the text fields.*Found: price"):
        load_item_text(files, ["1"], FIELDS)
    files = item_file(tmp_path, "asin:token\ttitle:token_seq", "1\tone")
    with pytest.raises(UserError, match="no column item_id"):
        load_item_text(files, ["1"], FIELDS)
    with pytest.raises(UserError, match="does not exist"):
        load_item_text(DataFiles(tmp_path, "none"), ["1"], FIELDS)


def test_without_a_file_there_is_no_text_when_none_is_needed(tmp_path: Path) -> None:
    text = load_item_text(DataFiles(tmp_path, "none"), ["1", "2"], FIELDS, text_required=False)
    assert text.items == ("1", "2") and not text.has_titles and text.title_field is None
