"""Which prompts are decoded together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decoding_helpers import build_lm

from recbole_lcrec.decoding.batching import MAX_PROMPTS, prompts_at_once, run_halving, similar_lengths


def test_similar_lengths_share_a_batch_and_nothing_is_lost() -> None:
    lengths = [9, 3, 7, 3, 8, 1, 2]
    batches = [batch.tolist() for batch in similar_lengths(lengths, 3)]
    assert batches == [[5, 6, 1], [3, 2], [4, 0]]
    assert [batch.tolist() for batch in similar_lengths([5, 5], 10)] == [[0, 1]]


def test_longer_prompts_and_more_beams_leave_room_for_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build_lm("llama")
    monkeypatch.setattr("recbole_lcrec.decoding.batching.CPU_MEMORY", 2**24)
    few, many = prompts_at_once(lm, 200, 60), prompts_at_once(lm, 50, 60)
    assert 1 <= prompts_at_once(lm, 200, 600) < few < many < MAX_PROMPTS
    assert prompts_at_once(lm, 50, 60, more=2**21) == 7, "8 fill the memory, and the model needs some"
    assert prompts_at_once(lm.double(), 50, 60) < many
    assert prompts_at_once(lm, 100_000, 60) == 1
    monkeypatch.setattr("recbole_lcrec.decoding.batching.CPU_MEMORY", 2**50)
    assert prompts_at_once(build_lm("gpt2"), 200, 60) < 100, "a layer's states stay in the cache"
    monkeypatch.setattr("recbole_lcrec.decoding.batching.CPU_STATES", 2**50)
    assert prompts_at_once(build_lm("gpt2"), 200, 60) == MAX_PROMPTS


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    runs = []

    def run(numbers: np.ndarray) -> None:
        if len(numbers) > 3:
            raise torch.OutOfMemoryError("too many")
        runs.append(numbers.tolist())

    run_halving(run, np.arange(9))
    assert sum(runs, []) == list(range(9)) and max(map(len, runs)) <= 3

    def never(numbers: np.ndarray) -> None:
        raise torch.OutOfMemoryError("none")

    with pytest.raises(torch.OutOfMemoryError, match="none"):
        run_halving(never, np.arange(4))
