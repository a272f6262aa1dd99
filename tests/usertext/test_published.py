"""Published texts are checked, joined by raw tokens, and kept to the users' training part."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from usertext_helpers import options

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.usertext import SAVED_TEXTS, UserTexts, write_published
from recbole_lcrec.usertext.held_out import load_test_intentions
from recbole_lcrec.utils.errors import UserError

Load = Callable[..., UserTexts]


def entry(item: Any, inters: list[Any], *queries: str) -> dict[str, Any]:
    return {"item": item, "inters": inters, "querys": list(queries)}


def write(folder: Path, train: Any = None, test: Any = None, preferences: Any = None) -> Path:
    value = {
        "user_explicit_preference": {} if preferences is None else preferences,
        "user_vague_intention": {"train": {} if train is None else train, "test": {} if test is None else test},
    }
    path = folder / "toy.user.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_file_is_preferred_and_cleaned(load: Load, tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a": entry("i3", ["i0", "i1"], "soft &amp; cheap wood", "<b>pine</b> <a_3>")},
        None,
        {"f": ["Likes  oak"]},
    )
    texts = load("auto")
    assert texts == load("file")
    assert list(texts.intentions) == ["a"] and texts.intentions["a"].queries == ("soft & cheap wood", "pine")
    assert (texts.intentions["a"].target, texts.intentions["a"].history) == (3, (0, 1))
    assert list(texts.preferences) == ["f"] and texts.preferences["f"].history == (1, 0, 4)
    assert texts.preferences["f"].texts == ("Likes oak",)
    assert load("extractive").intentions["a"].queries != texts.intentions["a"].queries
    assert not load("none").intentions


def test_whole_numbers_are_tokens_too(load: Load, shop: Any, tmp_path: Path) -> None:

    numbered = replace(shop, items=tuple(str(row) for row in range(8)))
    write(tmp_path, {"1": entry(3, [0, "1"], "a plank")}, None, {"1": "one text"})
    texts = load("file", item_text=numbered, train_sequences={"1": [0, 1, 3]})
    assert texts.intentions["1"].target == 3 and texts.preferences["1"].texts == ("one text",)


def test_only_training_items_of_known_users_are_used(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = {
        "a": entry("i4", ["i0"], "the validation item"),  # a's training items are i0 to i3
        "f": entry("i6", ["i3", "i7"], "an item of the test among the history"),
        "b": entry("i99", [], "an item of no catalogue"),
        "e": entry("i7", ["i5"], "..."),
        "c": entry("i2", [], "a plank of oak"),
        "stranger": entry("i0", [], "who is that"),
    }
    write(tmp_path, train, None, {"nobody": ["likes x"], "a": [" "]})
    with caplog.at_level(logging.WARNING):
        texts = load("file")
    assert list(texts.intentions) == ["c"] and not texts.preferences
    assert texts.counts["unknown users"] == 2 and texts.counts["intentions without words"] == 1
    assert texts.counts["intentions with items outside the user's training part"] == 3
    assert "3 of 6 intentions" in caplog.text and "2 users" in caplog.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "the whole file is list"),
        ('{"users": {}}', "user_explicit_preference"),
        ('{"user_explicit_preference": {"a": 3}}', r"user_explicit_preference\.a is int 3"),
        ('{"user_explicit_preference": {"a": [["x"]]}}', r"user_explicit_preference\.a"),
        ('{"user_vague_intention": []}', "user_vague_intention is list"),
        ('{"user_vague_intention": {"train": {"a": {"item": 1, "querys": []}}}}', r"train\.a has no key inters"),
        ('{"user_vague_intention": {"train": {"a": {"item": true, "inters": [], "querys": []}}}}', r"train\.a\.item"),
        ('{"user_vague_intention": {"train": {"a": {"item": 1, "inters": 2, "querys": []}}}}', r"a\.inters is int"),
        ('{"user_vague_intention": {"train": {"a": {"item": 1, "inters": [1.5], "querys": []}}}}', r"a\.inters holds"),
        ('{"user_vague_intention": {"train": {"a": {"item": 1, "inters": [], "querys": [2]}}}}', r"a\.querys"),
    ],
)
def test_malformed_files_are_refused_by_file_and_key(load: Load, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "toy.user.json").write_text(content)
    with pytest.raises(UserError, match=rf"toy\.user\.json.*{expected}"):
        load("auto")


def test_options_are_checked(load: Load) -> None:
    with pytest.raises(UserError, match=r"toy\.user\.json does not exist.*extractive"):
        load("file")
    for wrong in ("gpt", "hf", "hf:", "extractive:x", ""):
        with pytest.raises(UserError, match="user_text=.*extractive.*hf:"):
            options(user_text=wrong)
    with pytest.raises(UserError, match="user_text_batch_size"):
        options(user_text_batch_size=0)


def test_wrong_review_files_are_refused(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "toy.review"
    path.write_text("user_id:token\titem:token\treview:token_seq\n")
    with pytest.raises(UserError, match=r"toy\.review, line 1: no column item_id"):
        load()
    path.write_text("user_id:token\titem_id:token\twords:token_seq\n")
    with pytest.raises(UserError, match="review_text_fields"):
        load()
    path.write_text("user_id:token\titem_id:token\treview:token_seq\na\ti0\n")
    with pytest.raises(UserError, match="line 2: found 2 cells, expected 3"):
        load()


def test_of_a_pair_with_more_reviews_than_training_interactions_the_earliest_are_used(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "toy.review"
    lines = ["user_id:token\titem_id:token\tsummary:token_seq\treview:token_seq"]
    lines += [
        "a\ti3\tflower\tbeds",
        "a\ti3\tbrass\tnozzle",
        "f\ti6\tgrips\tfirmly",
        "b\ti4\tsoft\ttoys",
        "b\ti0\tx\ty",
    ]
    path.write_text("\n".join(lines) + "\n")
    assert load("extractive").counts["reviews"] == 2
    assert "1 pairs of user and item have more reviews" in caplog.text
    timed = [lines[0] + "\ttimestamp:float", *(f"{line}\t{9 - n}" for n, line in enumerate(lines[1:]))]
    path.write_text("\n".join(timed) + "\n")
    texts = load("extractive")
    assert texts.counts["reviews"] == 3
    assert "brass" in str(texts.intentions["a"]) and "flower" not in str(texts.intentions["a"])
    path.write_text("\n".join([*timed[:2], timed[2].replace("\t8", "\tlater")]) + "\n")
    with pytest.raises(UserError, match=r"toy\.review: 'later' is not a time"):
        load("extractive")


def ask(shop: Any, folder: Path, targets: dict[str, int], user_text: str = "auto") -> dict[str, tuple[str, ...]]:
    return load_test_intentions(
        options(user_text=user_text), targets=targets, item_text=shop, files=DataFiles(folder, "toy"),
        cache_dir=folder / "cache", seed=1,
    )  # fmt: skip


def test_test_intentions_are_of_the_test_item(
    shop: Any, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = ask(shop, tmp_path, {"a": 6, "d": 5})
    assert list(made) == ["a"] and any("Rain" in query for query in made["a"])
    assert ask(shop, tmp_path, {"a": 6}, "none") == {}
    write(
        tmp_path,
        None,
        {"a": entry("i6", [], "water my beds"), "b": entry("i1", [], "another item"), "z": entry(1, [])},
    )
    with caplog.at_level(logging.WARNING):
        assert ask(shop, tmp_path, {"a": 6, "b": 2}) == {"a": ("water my beds",)}
    assert "1 of 2 test users" in caplog.text
    assert not load("file").intentions, "the test block never reaches training"


def test_nothing_on_the_way_to_training_imports_the_test_intentions() -> None:
    package = Path(__file__).resolve().parents[2] / "recbole_lcrec"
    folders = ["usertext", "instruction", "data", "index", "quantizer", "embedding"]
    for path in [path for folder in folders for path in (package / folder).glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "held_out" not in ast.dump(node), path


def test_a_run_keeps_its_texts_exactly(load: Load, shop: Any, tmp_path: Path) -> None:
    texts = load("extractive")
    odd = UserTexts({"f": replace(texts.preferences["f"], texts=('"a" & <b>', " x "))}, texts.intentions, "test")
    run = tmp_path / "run"
    write_published(run / SAVED_TEXTS, odd, shop.items)
    again = load("hf:no/where", saved=run)
    assert again.intentions == odd.intentions and again.preferences == odd.preferences
    assert not load("extractive", saved=tmp_path), "a run that kept none had none"
    (run / SAVED_TEXTS).rename(tmp_path / "toy.user.json")
    assert load("auto").intentions == texts.intentions, "it can be published as it is"
