"""The samples of an epoch are what they have always been, to the bit: of a function of (seed, epoch, sample)."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from fakes import catalogue_index, catalogue_text, settings

from recbole_lcrec.index.catalogue import path_ids
from recbole_lcrec.instruction.prompts import PromptBuilder
from recbole_lcrec.instruction.samples import EpochSamples, Sequences
from recbole_lcrec.instruction.tokenizer import add_index_tokens, index_token_ids, train_tokenizer
from recbole_lcrec.usertext import Intention, Preferences, UserTexts


@cache
def byte_tokenizer() -> Any:
    tokenizer = train_tokenizer(["x"], 259)
    add_index_tokens(tokenizer, catalogue_index().index_tokens())
    return tokenizer


def byte_builder(**changes: Any) -> PromptBuilder:
    """Return a prompt builder whose words are bytes: no merge that a version of the trainer could learn otherwise."""
    tokenizer, index = byte_tokenizer(), catalogue_index()
    options = {"max_length": 600, **changes}
    return PromptBuilder(
        tokenizer,
        path_ids(index, index_token_ids(tokenizer, index), index.items),
        catalogue_text(),
        settings(**options),
    )


def sequences() -> Sequences:
    """Three users with 9, 2 and 30 interactions, histories of at most 4 items."""
    rows = [(user, t, n) for user, n in enumerate((9, 2, 30)) for t in range(1, n)]
    histories = [[(user + s) * 5 % 6 for s in range(max(0, t - 4), t)] for user, t, _ in rows]
    return Sequences(
        histories=np.array([history + [-1] * (4 - len(history)) for history in histories]),
        lengths=np.array([len(history) for history in histories]),
        targets=np.array([(user + t) * 5 % 6 for user, t, _ in rows]),
        from_end=np.array([n - 1 - t for _, t, n in rows]),
        user_samples=np.array([n - 1 for _, _, n in rows]),
    )


def user_texts() -> UserTexts:
    preferences = {"u0": Preferences((1,), ("likes saws",)), "u2": Preferences((4, 2), ("likes film", "wants nails"))}
    intentions = {"u0": Intention(3, (), ("a nail",)), "u2": Intention(1, (4, 2), ("a hammer", "a large  hammer"))}
    return UserTexts(preferences, intentions, "test")


GOLDEN = {
    (0, 0, "plain"): "c7986315c5b5c7db",
    (0, 3, "plain"): "8f035f8eff9f33c3",
    (7, 1, "history"): "24d46a25f3055948",
    (7, 2, "tight"): "c41eb1405453c4cf",
}
"""Made by the first version of the sample builder, which tokenized every text as a whole."""


@pytest.mark.parametrize(
    ("seed", "epoch", "kind"), [(0, 0, "plain"), (0, 3, "plain"), (7, 1, "history"), (7, 2, "tight")]
)
def test_samples_are_those_of_the_first_version(seed: int, epoch: int, kind: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "history": {
            "history_loss_weight": 0.25,
            "task_weights": {"seqrec": 3.0, "itemsearch": 0.5},
            "task_samples": {"seqrec": 50, "item2index": 40},
        },
        "tight": {"max_length": 260, "max_text_words": 2, "history_separator": ""},
    }
    windows = 4 if kind == "history" else None
    samples = EpochSamples(byte_builder(**changes[kind]), sequences(), windows, seed, user_texts())
    digest = hashlib.sha256()
    for sample in samples.build(epoch):
        assert (sample.ids.dtype, sample.weights.dtype) == (np.int32, np.float32)
        digest.update(np.array(len(sample.ids)).tobytes() + sample.ids.tobytes() + sample.weights.tobytes())
    assert digest.hexdigest()[:16] == GOLDEN[seed, epoch, kind]
