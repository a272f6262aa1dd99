"""Token ids put together from words equal those of the whole text, and only where that must be so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import DESCRIPTIONS, TITLES, make_tokenizer
from tokenizers import AddedToken, normalizers, pre_tokenizers

from recbole_lcrec.instruction.templates import PREAMBLE, RESPONSE_HEADER
from recbole_lcrec.instruction.tokenizer import add_index_tokens
from recbole_lcrec.instruction.words import WordIds, splits_at_blanks

PARTS = [
    " ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u2028", "\u3000", "\u0301", "\x1c", "\u200b", "\r\n", "a", "saw",
    "'s", "'ll", "n't", ".", "--", "''", "$5", "1234", "Red", "Amélie", "🙂", "</s>", "<a_1>", "<a_1><b_2>", "###",
    "天気", ":\n",
]  # fmt: skip


@pytest.fixture(scope="module", params=["ours", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    made = make_tokenizer(request.param)
    add_index_tokens(made, [f"<{level}_{code}>" for level in "ab" for code in range(4)])
    return made


def test_words_put_together_equal_the_whole_text(tokenizer: Any) -> None:
    ids = WordIds(tokenizer)
    assert ids.by_words
    rng = np.random.default_rng(0)
    made = ["".join(rng.choice(PARTS, size=rng.integers(1, 9))) for _ in range(3000)]
    framed = [PREAMBLE + f"{a} and {b}?" + RESPONSE_HEADER for a in TITLES for b in DESCRIPTIONS]
    for text in ["", " ", "  ", " a", "a ", *made, *framed]:
        assert ids(text) == tokenizer(text, add_special_tokens=False).input_ids, repr(text)


def test_a_word_is_tokenized_once() -> None:
    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner, self.backend_tokenizer, self.texts = inner, inner.backend_tokenizer, []

        def __call__(self, text: str, **options: Any) -> Any:
            self.texts.append(text)
            return self.inner(text, **options)

    counting = Counting(make_tokenizer("ours"))
    ids = WordIds(counting)
    assert ids("cut the red saw") and ids("the red saw") and ids("red the saw the")
    assert counting.texts == ["cut", " the", " red", " saw", "the", "red"]


def test_tokenizers_that_may_merge_across_blanks_get_whole_texts() -> None:
    llama = make_tokenizer("llama")
    assert not splits_at_blanks(llama)
    ids = WordIds(llama)
    for text in ("a  saw that cuts", " a", "a "):
        assert ids(text) == llama(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("change", ["normalizer", "prefix", "regex", "dropout", "rstrip", "wide"])
def test_what_could_join_words_is_found(change: str) -> None:
    tokenizer = make_tokenizer("gpt2")
    backend = tokenizer.backend_tokenizer
    assert splits_at_blanks(tokenizer)
    if change == "normalizer":
        backend.normalizer = normalizers.Replace("a b", "c")
    elif change == "prefix":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif change == "regex":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif change == "dropout":
        backend.model.dropout = 0.1
    else:
        token = AddedToken("<x>", rstrip=True) if change == "rstrip" else AddedToken("red saw")
        tokenizer.add_tokens([token])
    assert not splits_at_blanks(tokenizer)
