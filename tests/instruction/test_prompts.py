"""Prompts put together from pieces equal the tokenized text; labels cover exactly what they should."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import catalogue_index, catalogue_text, make_builder, settings

from recbole_lcrec.cli.viewer import format_sample
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.prompts import Context, PromptBuilder
from recbole_lcrec.instruction.templates import PREAMBLE, RESPONSE_HEADER, TEMPLATES, Template
from recbole_lcrec.utils.errors import UserError


def as_text(template: Template, context: Context) -> tuple[str, str]:
    """Write prompt and response as text: the readable reference of the prompt builder."""
    text, index = catalogue_text(), catalogue_index()
    fill = {
        "history": ", ".join("".join(index.path(f"i{row}")) for row in context.history),
        "titles": ", ".join(f'"{text.titles[row]}"' for row in context.history if text.titles[row]),
        "intention": context.intention,
        "preferences": context.preferences,
    }
    if context.target is not None:
        fill["index"] = "".join(index.path(f"i{context.target}"))
        fill["title"] = text.titles[context.target]
        fill["description"] = text.descriptions[context.target]
    return PREAMBLE + template.instruction.format(**fill) + RESPONSE_HEADER, template.response.format(**fill)


@pytest.mark.parametrize("kind", ["ours", "gpt2", "llama"])
@pytest.mark.parametrize("task", list(TEMPLATES))
def test_assembled_samples_equal_tokenizing_the_whole_text(kind: str, task: str) -> None:
    builder = make_builder(kind)
    for number, template in enumerate(TEMPLATES[task]):
        said = {"intention": "Show me a saw, Amélie!", "preferences": "Likes nails & 天気; sharp."}
        context = Context(np.array([1, 2, 3, 4, 0][: 1 + number % 5]), target=(0, 3, 4, 5)[number % 4], **said)
        prompt, response = as_text(template, context)
        sample = builder.sample(template, context)
        whole = builder.tokenizer(prompt + response).input_ids + [builder.tokenizer.eos_token_id]
        assert sample.ids.tolist() == whole
        np.testing.assert_array_equal(builder.prompt(template, context), builder.tokenizer(prompt).input_ids)
        n_response = len(whole) - len(builder.tokenizer(prompt).input_ids)
        assert sample.weights.tolist() == [0.0] * (len(whole) - n_response) + [1.0] * n_response


@pytest.mark.parametrize("kind", ["ours", "gpt2", "llama"])
def test_prompts_of_a_wording_begin_with_what_they_share(kind: str) -> None:
    builder = make_builder(kind)
    for template in [template for task in ("seqrec", "itemsearch", "fusionseqrec") for template in TEMPLATES[task]]:
        prefix = builder.shared_prefix(template).tolist()
        assert len(prefix) > 8
        for history in ([1], [3, 4, 5]):
            prompt = builder.prompt(template, Context(np.array(history), 0, "a saw, please", "likes nails")).tolist()
            assert prompt[: len(prefix)] == prefix
            ahead = template.instruction.split("{")[1].startswith(("history", "index"))
            assert builder.tokenizer.decode(prompt[len(prefix)]).startswith("<a_") or not ahead


def test_history_loss_covers_all_items_of_the_history_but_the_first() -> None:
    builder = make_builder(history_loss_weight=0.5)
    sample = builder.sample(TEMPLATES["seqrec"][0], Context(np.array([3, 1, 4]), 5))
    marked = [builder.tokenizer.decode([t]) for t, w in zip(sample.ids, sample.weights, strict=True) if w == 0.5]
    index = catalogue_index()
    assert marked == [*index.path("i1"), *index.path("i4")]
    assert (sample.weights == 1).sum() == 4 + 1


def test_too_long_histories_lose_their_oldest_items_and_the_response_stays() -> None:
    template, history = TEMPLATES["seqrec"][0], np.array([0, 1, 2, 3, 4, 5] * 3)
    full = make_builder().sample(template, Context(history, 2))
    short = make_builder(max_length=len(full.ids) - 1).sample(template, Context(history, 2))
    assert len(short.ids) < len(full.ids)
    kept = make_builder().sample(template, Context(history[-17:], 2))
    np.testing.assert_array_equal(short.ids, kept.ids)


def test_too_long_texts_lose_their_ends_and_the_response_stays() -> None:
    template = TEMPLATES["item2index"][-1]  # title and description -> index
    builder = make_builder(max_text_words=3)
    text = builder.tokenizer.decode(builder.prompt(template, Context(np.zeros(0, int), 3)))
    assert 'The "Best" Nail' in text and "(50-pack)" not in text
    full = make_builder().sample(template, Context(np.zeros(0, int), 3))
    short = make_builder(max_length=len(full.ids) - 4).sample(template, Context(np.zeros(0, int), 3))
    assert len(short.ids) <= len(full.ids) - 4
    np.testing.assert_array_equal(short.ids[-5:], full.ids[-5:])


def test_a_limit_that_nothing_fits_is_refused() -> None:
    with pytest.raises(UserError, match="max_length=32 is too small"):
        make_builder(max_length=32).sample(TEMPLATES["index2item"][-1], Context(np.zeros(0, int), 3))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tasks": ["seqrec", "item2indx"]}, "Did you mean 'item2index'"),
        ({"tasks": ["item2index"]}, "expected 'seqrec' or 'nextitem' among them"),
        ({"task_samples": {"seqrec": 0}}, "task_samples"),
        ({"history_loss_weight": -1.0}, "history_loss_weight"),
        ({"task_samples": {"itemsarch": 3}}, "task_samples: unknown task.*Did you mean 'itemsearch'"),
        ({"task_weights": {"preference": 3}}, "task_weights: unknown task 'preference'"),
        ({"task_weights": {"seqrec": 0}}, "'seqrec' is 0; expected .* above 0.*To switch a task off, leave it out"),
    ],
)
def test_settings_are_checked(changes: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        settings(**changes)


def test_viewer_marks_the_tokens_with_loss() -> None:
    builder: PromptBuilder = make_builder()
    shown = format_sample(builder, builder.sample(TEMPLATES["seqrec"][0], Context(np.array([1]), 0)))
    path = catalogue_index().path("i0")
    assert shown.endswith("|".join(f"[[{token}]]" for token in [*path, "</s>"]))
    assert shown.count("[[") == 5


def test_texts_without_blanks_leave_room_for_the_instruction_and_keep_their_end_token() -> None:
    builder = make_builder(max_length=240)
    builder.text = ItemText(("i0",), "title", ("description",), ("\u5929\u6c17" * 300,), ("y" * 3000,))
    for template in TEMPLATES["index2item"]:
        sample = builder.sample(template, Context(np.zeros(0, int), 0))
        assert len(sample.ids) <= 240 and sample.ids[-1] == builder.tokenizer.eos_token_id
        assert sample.weights[-1] == 1 and sample.weights.sum() > 1
