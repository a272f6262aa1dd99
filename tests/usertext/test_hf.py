"""A language model's texts: every answer kept, nothing asked twice, malformed ones mended or dropped and counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import save_checkpoint
from usertext_helpers import options

from recbole_lcrec.usertext import UserTexts, huggingface
from recbole_lcrec.usertext.answers import parse_answer
from recbole_lcrec.usertext.jobs import Job
from recbole_lcrec.usertext.prompts import item_lines, prompt
from recbole_lcrec.utils.errors import UserError

Load = Callable[..., UserTexts]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2", "gpt2")


def answers_of(folder: Path) -> dict[str, str]:
    (path,) = (folder / "user_texts").glob("*.jsonl")
    return huggingface.read_answers(path)


def test_answers_do_not_depend_on_the_batch_and_are_kept(checkpoint: Path, load: Load, tmp_path: Path) -> None:
    settings = {size: options(user_text=f"hf:{checkpoint}", user_text_batch_size=size) for size in (1, 4)}
    texts = load(settings=settings[4], cache_dir=tmp_path / "4")
    load(settings=settings[1], cache_dir=tmp_path / "1")
    assert answers_of(tmp_path / "1") == answers_of(tmp_path / "4")
    n = texts.counts["answers written"]
    assert n == 8 and texts.counts["texts not asked for (items without text)"] == 3  # of users d and e
    again = load(settings=settings[4], cache_dir=tmp_path / "4")
    assert again.counts["answers from the cache"] == n and "answers written" not in again.counts
    assert (again.intentions, again.preferences) == (texts.intentions, texts.preferences)
    more = load(settings=options(user_text=f"hf:{checkpoint}", user_text_max_tokens=9), cache_dir=tmp_path / "4")
    assert more.counts["answers from the cache"] == 0, "the length of an answer is part of the key"


def test_a_killed_run_goes_on_where_it_was(
    checkpoint: Path, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options(user_text=f"hf:{checkpoint}", user_text_batch_size=2)
    whole = load(settings=settings, cache_dir=tmp_path / "whole")
    answer, calls = huggingface.Author.answers, []

    def killed(self: Any, requests: Any) -> list[str]:
        calls.append(len(requests))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(self, requests)

    monkeypatch.setattr(huggingface.Author, "answers", killed)
    with pytest.raises(KeyboardInterrupt):
        load(settings=settings, cache_dir=tmp_path / "cut")
    (path,) = (tmp_path / "cut" / "user_texts").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"key": "half a li')  # killed in the middle of a line
    monkeypatch.undo()
    resumed = load(settings=settings, cache_dir=tmp_path / "cut")
    assert resumed.counts["answers from the cache"] == 4
    assert (resumed.intentions, resumed.preferences) == (whole.intentions, whole.preferences)
    assert answers_of(tmp_path / "cut") == answers_of(tmp_path / "whole")


def test_answers_become_texts(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scripted:
        def __init__(self, *_: Any) -> None:
            pass

        def answers(self, requests: Any) -> list[str]:
            return ["1. copper cutter\n2. pipe tool" if kind == "intention" else "???" for kind, _ in requests]

    monkeypatch.setattr(huggingface, "Author", Scripted)
    texts = load(settings=options(user_text="hf:any"))
    assert texts.intentions["a"].queries == ("copper cutter", "pipe tool") and not texts.preferences
    assert texts.counts["answers repaired"] == 4 and texts.counts["answers dropped"] == 4


@pytest.mark.parametrize(
    ("kind", "answer", "texts", "repaired"),
    [
        ("intention", "copper pipe cutter\nclean cuts in pipes", ("copper pipe cutter", "clean cuts in pipes"), False),
        ("intention", "Here are two queries:\n- \"a cutter\"\n* 'for pipes'", ("a cutter", "for pipes"), True),
        ("intention", "Query 1: one tool\nQuery 2: one tool\n3) third tool", ("one tool", "third tool"), True),
        ("intention", '["a saw", \n"an axe"]', ("a saw", "an axe"), True),
        ("intention", "<think>let me see</think>\nsaw <b>blade</b>", ("saw blade",), True),
        ("intention", "saw saw saw", (), True),
        ("intention", "<a_1><b_2>", (), True),
        ("intention", "", (), False),
        ("intention", "天気予報の本", ("天気予報の本",), False),
        ("preferences", "Likes tools.\nAnd wood.", ("Likes tools. And wood.",), True),
        ("preferences", "The user's preferences: good tools", ("good tools",), True),
        ("preferences", "word " * 3 + "other " * 200, (" ".join(["word"] * 3 + ["other"] * 77),), True),
    ],
)
def test_parse_answer(kind: str, answer: str, texts: tuple[str, ...], repaired: bool) -> None:
    assert parse_answer(kind, answer) == (texts, repaired)


def test_the_prompt_shows_the_latest_items_with_the_users_words(shop: Any) -> None:
    job = Job("preferences", "u", (5, *([0, 1] * 6)), ("", *([""] * 11), "grips well"))
    lines = item_lines(job, shop)
    assert len(lines) == 10 and lines[-1].endswith('The user says: "grips well"')
    request, start = prompt(job.kind, lines)
    assert request.startswith("A user chose these items") and start == "The user's preferences:"


def test_a_prompt_too_long_for_the_model_loses_its_oldest_items(checkpoint: Path, shop: Any) -> None:
    author = huggingface.Author(str(checkpoint), "cpu", 8)
    lines = item_lines(Job("preferences", "u", (0, 1, 2, 3) * 3, ("",) * 12), shop)
    fitted = author._fitted("preferences", lines)
    shown = [line for line in fitted.split("\n") if line.startswith("- ")]
    assert 0 < len(shown) < len(lines) and shown == lines[-len(shown) :]
    with pytest.raises(UserError, match="user_text_max_tokens=450"):
        huggingface.Author(str(checkpoint), "cpu", 450).answers([("intention", lines)])


def test_a_chat_template_is_used(checkpoint: Path) -> None:
    author = huggingface.Author(str(checkpoint), "cpu", 8)
    assert author._fitted("intention", ["- x"]).endswith("\n\nQueries:\n")
    author._tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert author._fitted("intention", ["- x"]).endswith("nothing else.]")


@pytest.mark.parametrize(
    ("template", "words"),
    [("{% if %}", "Expected an expression"), ("{{ raise_exception('no') }}", "no"), ("{{ ''.__class__.x }}", "unsafe"),
     ("{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}", "does not contain the request")],
)  # fmt: skip
def test_a_chat_template_that_does_not_work_is_told_before_the_work(
    checkpoint: Path, tmp_path: Path, template: str, words: str
) -> None:
    shutil.copytree(checkpoint, tmp_path / "odd")
    (tmp_path / "odd" / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=rf"user_text=odd: the chat template .*{words}"):
        huggingface.check_author(str(tmp_path / "odd"), "user_text=odd")


def test_lines_that_cannot_be_read_cost_their_answers_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    huggingface.append_answers(path, [("k", Job("intention", "u", (0,), ("",)), "x")])
    good = path.read_bytes().strip()
    changed = good.replace(b'"x"', b'"z"')
    path.write_bytes(b"\n".join([b"[]", changed, good, b'{"key": 1, "answer": "y"}', b"\xff\xfe", b'{"key": "h']))
    huggingface.append_answers(path, [("l", Job("intention", "u", (0,), ("",)), "é\n")])
    assert huggingface.read_answers(path) == {"k": "x", "l": "é\n"}


def test_a_model_that_cannot_be_loaded_is_named(load: Load) -> None:
    with pytest.raises(UserError, match="user_text=hf:/no/where"):
        load("hf:/no/where")
