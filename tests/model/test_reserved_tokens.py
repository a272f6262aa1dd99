"""Ids, titles and texts that read like tokens of the model's own stay words, in every model's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candidate_helpers import options as candidate_options
from fakes import catalogue_text, make_tokenizer, settings
from t5_helpers import options as t5_options
from t5_helpers import save_t5

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.experiment import build
from recbole_lcrec.instruction.prompts import Context, PromptBuilder
from recbole_lcrec.instruction.templates import Template
from recbole_lcrec.instruction.tokenizer import add_index_tokens
from recbole_lcrec.model.generative import Request
from recbole_lcrec.utils.special_tokens import broken_up, reserved_tokens

ODD = ["</s>", "<s>", "<pad>", "<a_1>", "<|endoftext|>", "<unk>", "</s></s>", "<</s>/s>", "x<b_0>y", "{title}", "%s"]


def odd_text(names: list[str]) -> ItemText:
    items = tuple(f"i{n}" for n in range(len(names)))
    return ItemText(items, "title", ("description",), tuple(names), tuple(names))


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_no_text_becomes_a_reserved_token(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    add_index_tokens(tokenizer, ["<a_0>", "<a_1>", "<b_0>", "<b_1>"])
    text, reserved = odd_text(ODD), reserved_tokens(tokenizer)
    paths = np.array([tokenizer.convert_tokens_to_ids(["<a_0>", "<b_0>"])] * len(ODD))
    builder = PromptBuilder(tokenizer, paths, text, settings())
    template = Template("{user} wants {intention}, had {titles}: {title} {description}?", "{title}{description}")
    for row, name in enumerate(ODD):
        context = Context(np.arange(len(ODD)), target=row, user=name, intention=name)
        prompt, response = builder.prompt(template, context), builder.response(template, context)
        begin = builder._begin_ids()
        assert reserved.keys().isdisjoint(prompt[len(begin) :].tolist()), name
        assert reserved.keys().isdisjoint(response[:-1].tolist()) and response[-1] == tokenizer.eos_token_id, name


def test_plain_text_keeps_its_tokens() -> None:
    tokenizer = make_tokenizer("ours")
    text = catalogue_text()
    builder = PromptBuilder(tokenizer, np.zeros((len(text.items), 0), np.int64), text, settings())
    template = Template("Who likes {title} < /s> <b>?", "{title}", framed=False)
    ids = builder.prompt(template, Context(np.zeros(0, np.int64), 1))
    assert tokenizer.decode(ids) == "<s>Who likes Blue hammer, large < /s> <b>?"
    assert ids.tolist() == tokenizer("Who likes Blue hammer, large < /s> <b>?").input_ids


def test_words_that_were_added_and_unknown_ones_are_not_reserved() -> None:
    tokenizer = make_tokenizer("llama")
    tokenizer.add_tokens(["hammer", "<a_0>"])
    written = set(reserved_tokens(tokenizer).values())
    assert written == {"<s>", "</s>", "<a_0>"}
    assert broken_up("a </s> b", written) == "a < /s> b" and broken_up("<unk>", written) == "<unk>"


def with_odd_ids(folder: Path) -> None:
    """Rename the first users and items of the data set ``toy`` to what reads like tokens."""
    for name in ("toy.inter", "toy.item"):
        path = folder / "toy" / name
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
        new = {f"{kind}{n}": odd for kind in "ui" for n, odd in enumerate(ODD)}
        for cells in lines[1:]:
            cells[:2] = [new.get(cell, cell) for cell in cells[:2]]
        path.write_text("\n".join("\t".join(cells) for cells in lines), encoding="utf-8")


@pytest.mark.parametrize("base", [False, True])
def test_p5cid_calls_users_by_words(tmp_path: Path, base: bool) -> None:
    given = t5_options(tmp_path, **({"base_model": str(save_t5(tmp_path / "t5"))} if base else {}))
    with_odd_ids(tmp_path)
    model = build("P5CID", "toy", given).model
    codes, reserved = set(model.catalogue.code_ids.tolist()), reserved_tokens(model.tokenizer)
    begin = list(model.catalogue.builder._begin_ids())
    seen = set()
    for user, name in enumerate(model.user_names[1:], start=1):
        request = Request(np.array([1, 2]), user=user)
        ids = model._request_inputs([request], 0)[0][0].tolist()
        words = [number for number in ids[len(begin) : -1] if number in reserved]
        assert ids[-1] == model.tokenizer.eos_token_id and set(words) <= codes, name
        assert words == model.catalogue.paths[[1, 2]].reshape(-1).tolist(), "the history, and no code of the name"
        seen.add(tuple(ids))
    assert len(seen) == len(model.user_names) - 1, "every user has a name of their own"


@pytest.mark.parametrize("model", ["TALLRec", "InstructRec"])
def test_rankers_call_items_without_titles_by_words(tmp_path: Path, model: str) -> None:
    given: dict[str, Any] = candidate_options(tmp_path)
    path = tmp_path / "toy" / "toy.item"
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
    for cells in lines[1:15]:
        cells[1] = ""
    path.write_text("\n".join("\t".join(cells) for cells in lines) + "\n")
    with_odd_ids(tmp_path)
    experiment = build(model, "toy", given)
    reserved = reserved_tokens(experiment.model.catalogue.tokenizer)
    end = experiment.model.catalogue.tokenizer.eos_token_id
    begin = len(experiment.model.catalogue.builder._begin_ids())
    assert set(ODD[:5]) <= set(experiment.model.catalogue.text.items)
    samples = list(experiment.train_data.samples.build(0))
    assert samples
    for sample in samples:
        ids = sample.ids.tolist()
        assert ids[-1] == end and reserved.keys().isdisjoint(ids[begin:-1])
