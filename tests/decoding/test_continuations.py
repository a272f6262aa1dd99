"""Continuations of different lengths behind shared prompts score as in plain forwards, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from decoding_helpers import VOCABULARY, build_lm

from recbole_lcrec.decoding import continuations as module
from recbole_lcrec.decoding.continuations import Continuations, log_likelihood, log_odds


def random_rows(sizes: list[int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCABULARY, size) for size in sizes]


PROMPTS = random_rows([9, 23, 1, 14], 0)
BEHIND = [random_rows(sizes, 1) for sizes in ([2, 5, 3, 3, 7, 2, 4], [6], [], [3, 2])]


@torch.no_grad()
def plain(lm: Any, prompt: np.ndarray, ids: np.ndarray) -> torch.Tensor:
    """Return the log-probabilities [len(ids), V] after each token of a continuation, without cache or padding."""
    logits = lm(input_ids=torch.from_numpy(np.append(prompt, ids))[None], use_cache=False).logits[0]
    return logits[len(prompt) :].log_softmax(-1)


def expected(lm: Any, kind: str) -> list[list[float]]:
    found = []
    for prompt, some in zip(PROMPTS, BEHIND, strict=True):
        found.append([])
        for ids in some:
            log_probs = plain(lm, prompt, ids)
            if kind == "odds":
                found[-1].append(float(log_probs[-1, 3] - log_probs[-1, 7]))
            else:
                summed = sum(float(log_probs[i, ids[i + 1]]) for i in range(len(ids) - 1))
                found[-1].append(summed / (len(ids) - 1 if kind == "mean" else 1))
    return found


READS = {"odds": log_odds(3, 7), "sum": log_likelihood(), "mean": log_likelihood(1.0)}


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("mode", ["fold", "expand", "recompute"])
@pytest.mark.parametrize("kind", list(READS))
def test_every_way_gives_the_scores_of_plain_forwards(name: str, mode: Any, kind: str) -> None:
    lm = build_lm(name)
    scores = Continuations(lm).score(PROMPTS, BEHIND, READS[kind], mode)
    for ours, truth in zip(scores, expected(lm, kind), strict=True):
        assert ours.tolist() == pytest.approx(truth, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("llama", "fold"),
        ("gpt2", "fold"),
        ("mask_blind", "expand"),
        ("position_blind", "expand"),  # rotary positions: its own are as good
        ("cacheless", "recompute"),
        ("mistral", "recompute"),  # it attends to a window
    ],
)
def test_the_way_is_chosen_by_numbers_and_right_for_every_architecture(name: str, mode: str) -> None:
    lm = build_lm(name, sliding_window=6) if name == "mistral" else build_lm(name)
    runner = Continuations(lm)
    scores = runner.score(PROMPTS, BEHIND, READS["sum"])
    assert list(runner._modes.values()) == [mode]
    for ours, truth in zip(scores, expected(lm, "sum"), strict=True):
        assert ours.tolist() == pytest.approx(truth, abs=1e-4, rel=1e-4)


def test_the_size_of_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build_lm("llama")
    whole = Continuations(lm).score(PROMPTS, BEHIND, READS["sum"])
    monkeypatch.setattr(module, "CPU_TOKENS", 1)
    monkeypatch.setattr(module, "MAX_LOGITS", VOCABULARY)
    single = Continuations(lm).score(PROMPTS, BEHIND, READS["sum"])
    reverse = Continuations(lm).score(PROMPTS[::-1], [some[::-1] for some in BEHIND[::-1]], READS["sum"])[::-1]
    for one, two, three in zip(whole, single, reverse, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one, three.flip(0), atol=1e-5, rtol=1e-5)


def test_nothing_asked_nothing_run() -> None:
    assert [len(scores) for scores in Continuations(build_lm("llama")).score(PROMPTS, [[]] * 4, READS["sum"])] == [
        0
    ] * 4


def test_training_mode_comes_back_after_the_probe() -> None:
    lm = build_lm("llama").train()
    Continuations(lm)._mode()
    assert lm.training
