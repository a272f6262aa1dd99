"""Which way of running beams is trusted for which model, and that the answer is right."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from decoding_helpers import build_lm, plain_path_scores, random_paths, random_prompts

from recbole_lcrec.decoding import TokenTrie, choose_mode, constrained_beam_search, mode


def assert_equals_brute_force(lm: Any, length: int = 12) -> None:
    prompts, paths = random_prompts(5, length), random_paths(60)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60)
    expected, order = plain_path_scores(lm, *prompts, paths).sort(descending=True)
    assert torch.equal(items, order)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("attention", "dtype"),
    [("sdpa", torch.float64), ("sdpa", torch.float32), ("sdpa", torch.bfloat16), ("eager", torch.float32)],
)
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_ordinary_models_are_folded(name: str, attention: str, dtype: torch.dtype) -> None:
    assert choose_mode(build_lm(name, attn_implementation=attention).to(dtype)) == "fold"


@pytest.mark.parametrize("width", [0.02, 0.3])
@pytest.mark.parametrize(
    ("name", "expected"), [("position_blind", "expand"), ("mask_blind", "expand"), ("cacheless", "recompute")]
)
def test_models_that_cannot_be_folded_are_detected(
    name: str, expected: str, width: float, caplog: pytest.LogCaptureFixture
) -> None:
    # 0.02 is transformers' own initialisation, with which masks and positions hardly show.
    with caplog.at_level(logging.INFO, "recbole_lcrec.decoding"):
        assert choose_mode(build_lm(name, initializer_range=width)) == expected
    (record,) = [one for one in caplog.records if one.name.startswith("recbole_lcrec")]
    assert f"run in mode '{expected}'" in record.message


@pytest.mark.parametrize("name", ["position_blind", "mask_blind", "cacheless"])
def test_models_that_cannot_be_folded_still_rank_right(name: str) -> None:
    assert_equals_brute_force(build_lm(name).double())


def test_a_folded_position_blind_model_would_rank_wrong() -> None:
    lm, prompts, trie = build_lm("position_blind").double(), random_prompts(5), TokenTrie(random_paths(60))
    folded, _ = constrained_beam_search(lm, *prompts, trie, 10, mode="fold")
    right, _ = constrained_beam_search(lm, *prompts, trie, 10)
    assert not torch.equal(folded, right)


@pytest.mark.parametrize(
    ("window", "max_length", "expected"),
    [(8, None, "expand"), (8, 9, "expand"), (64, None, "expand"), (64, 64, "fold"), (None, None, "fold")],
)
def test_sliding_windows_are_folded_only_when_all_fits(window: int | None, max_length: int, expected: str) -> None:
    assert choose_mode(build_lm("mistral", sliding_window=window), max_length) == expected


@pytest.mark.parametrize(("window", "length"), [(6, 30), (6, 4), (200, 20), (500, 20)])
def test_sliding_windows_rank_right(window: int, length: int) -> None:
    # Window 6 lies inside prompt and path; 200 holds a beam but not all beams; 500 holds everything.
    assert_equals_brute_force(build_lm("mistral", sliding_window=window).double(), length)


def test_the_answer_is_remembered_per_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def counted(lm: Any, max_length: int | None = None) -> str:
        asked.append(max_length)
        return "fold"

    monkeypatch.setattr(mode, "choose_mode", counted)
    lm, prompts, trie = build_lm("llama"), random_prompts(2), TokenTrie(random_paths(30))
    for _ in range(3):
        constrained_beam_search(lm, *prompts, trie, 5)
    assert len(asked) == 1
    constrained_beam_search(lm.bfloat16(), *prompts, trie, 5)
    constrained_beam_search(build_lm("llama"), *prompts, trie, 5)
    assert len(asked) == 3


def test_random_numbers_and_training_mode_are_left_alone() -> None:
    lm = build_lm("gpt2", attn_pdrop=0.5)
    lm.train()
    lm.transformer.h[0].eval()
    modes = [module.training for module in lm.modules()]
    state = torch.random.get_rng_state()
    assert choose_mode(lm) == "fold"
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in lm.modules()] == modes


def test_search_leaves_random_numbers_alone_and_builds_no_graph() -> None:
    lm, prompts, trie = build_lm("llama"), random_prompts(2), TokenTrie(random_paths(30))
    state = torch.random.get_rng_state()
    _, scores = constrained_beam_search(lm, *prompts, trie, 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not scores.requires_grad


@pytest.mark.parametrize(("precision", "expected"), [("highest", 1e-4), ("high", 8 * 2.0**-10), ("medium", 2.0**-4)])
def test_coarse_matrix_products_are_allowed_for(
    precision: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    assert mode._tolerance(torch.float32) == expected
    assert mode._tolerance(torch.float64) == 1e-4
    assert mode._tolerance(torch.bfloat16) == 2.0**-4
