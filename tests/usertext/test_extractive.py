"""Generated texts say what is characteristic of items, in the catalogue's words, the same on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext import UserTexts, extractive
from recbole_lcrec.usertext.words import Traits, chosen, listed, terms_of

Load = Callable[..., UserTexts]


def test_numbers_and_stop_words_are_no_terms_and_part_their_neighbours() -> None:
    assert terms_of("The 12-inch Copper pipe, for the TR150 cutter!") == ["copper", "pipe", "copper pipe", "cutter"]
    assert terms_of("") == []


def test_the_chosen_words_do_not_repeat_one_another() -> None:
    terms = [(0.9, "pipe cutter"), (0.8, "pipes"), (0.7, "copper"), (0.6, "acme")]
    assert chosen(terms, 3, but=["Acme"]) == ["pipe cutter", "copper"]


def test_a_trait_names_kind_brand_and_words(shop: ItemText) -> None:
    traits = Traits(shop)
    cutter, plank = traits.of(0), traits.of(2)
    assert plank.kinds == ("planks",) and plank.brand == "Forest Co"
    assert cutter.kinds == ("plumbing",), "the rarest category that two items share"
    assert "copper" in {term for _, term in cutter.terms}
    assert traits.of(5).terms == () and traits.of(5).name == ""


def test_genres_are_read_apart_and_all_count() -> None:
    genres = ("Action Thriller", "Action Comedy Drama Horror", "")
    text = ItemText(("1", "2", "3"), "title", ("class",), ("x", "y", "z"), genres, {"class": genres})
    kinds = [Traits(text).of(row).kinds for row in range(3)]
    assert kinds == [("action", "thriller"), ("action", "comedy", "drama"), ()]


@pytest.mark.parametrize(("words", "text"), [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_listed(words: str, text: str) -> None:
    assert listed(list(words)) == text


def test_intentions_are_of_the_last_training_item_and_preferences_of_those_before(load: Load) -> None:
    texts = load("extractive")
    intention, preferences = texts.intentions["a"], texts.preferences["a"]
    assert (intention.target, intention.history, preferences.history) == (3, (0, 1, 2), (0, 1, 2))
    assert len(intention.queries) == 2 and all("planks" in query for query in intention.queries)
    assert "Forest Co" in intention.queries[1]
    assert all("plumbing" in text for text in preferences.texts)
    assert not any("pine" in text for text in preferences.texts), "the target gives nothing away"
    assert texts.intentions["f"].history == (1, 0, 4), "only the latest items"


def test_users_with_one_item_and_items_without_text(load: Load) -> None:
    texts = load("extractive")
    assert "c" not in texts.intentions and texts.preferences["c"].history == (2,)
    assert "d" not in texts.intentions and "d" not in texts.preferences
    assert "e" not in texts.preferences and "天気" in texts.intentions["e"].queries[0]
    assert texts.counts["users"] == len({"a", "b", "c", "d", "e", "f"})


def test_seed_and_user_draw_the_phrasing_and_nothing_else_does(load: Load) -> None:
    first, other = load("extractive"), load("extractive", seed=2)
    assert load("auto").intentions == first.intentions and load("auto").preferences == first.preferences
    assert first.intentions["a"].queries != other.intentions["a"].queries
    alone = load("extractive", train_sequences={"a": [0, 1, 2, 3]})
    assert alone.intentions["a"] == first.intentions["a"], "other users change nothing"
    same = load("extractive", train_sequences={f"u{user}": [0, 1, 2, 3] for user in range(30)})
    assert len({intention.queries for intention in same.intentions.values()}) > 10


def test_texts_are_written_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = load("extractive"), load("extractive", seed=2)
    monkeypatch.setattr(extractive, "generate", None)
    assert load("extractive") == first and load("extractive", seed=2) == other != first
    with pytest.raises(TypeError, match="not callable"):  # of another history they are other texts
        load("extractive", train_sequences={"a": [0, 1, 2]})


def test_reviews_put_words_into_the_users_mouth(load: Load, tmp_path: Path) -> None:
    plain = load("extractive")
    lines = [
        "user_id:token\titem_id:token\treview:token_seq",
        "a\ti3\tflower beds and a brass nozzle",
        "b\ti9\tunknown",
    ]
    (tmp_path / "toy.review").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts = load("extractive")
    assert texts.counts["reviews"] == 1
    assert any("flower" in query or "brass" in query for query in texts.intentions["a"].queries)
    assert texts.intentions["b"] == plain.intentions["b"] and texts.preferences["a"] == plain.preferences["a"]


def test_texts_do_not_depend_on_hashing() -> None:
    program = (
        "from usertext_helpers import make_shop\n"
        "from recbole_lcrec.usertext.extractive import generate\n"
        "from recbole_lcrec.usertext.jobs import Job\n"
        "jobs = [Job('preferences', f'u{n}', (n % 8, n % 3, n % 5), ('', 'oak pipe', '')) for n in range(50)]\n"
        "texts = generate(jobs, make_shop(), 3)"
    )
    here = Path(__file__).resolve()
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[2])])}
    command = [sys.executable, "-c", program + "; print(ascii(texts))"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    names: dict[str, Any] = {}
    exec(program, names)
    assert done.stdout.strip() == ascii(names["texts"])


def test_ten_thousand_users_take_seconds(load: Load) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{chr(97 + i)}{chr(97 + j)}rd" for i in range(26) for j in range(26)]
    titles = tuple(" ".join(rng.choice(words, 8)) for _ in range(3000))
    text = ItemText(tuple(map(str, range(3000))), "title", (), titles, titles)
    sequences = {f"u{user}": rng.integers(3000, size=6).tolist() for user in range(10_000)}
    start = time.process_time()
    texts = load("extractive", item_text=text, train_sequences=sequences)
    assert time.process_time() - start < 20  # about 3 on an idle core
    assert len(texts.intentions) == len(texts.preferences) == 10_000
