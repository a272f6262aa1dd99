"""Exact scores of given paths against plain forwards and against the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import build_lm, plain_path_scores, random_paths, random_prompts

from recbole_lcrec.decoding import TokenTrie, beam, constrained_beam_search, score_paths


@pytest.mark.parametrize("mode", ["fold", "expand", "recompute", "auto"])
@pytest.mark.parametrize(("name", "n_levels"), [("llama", 4), ("qwen2", 1), ("gpt2", 3)])
def test_equals_plain_forwards(name: str, n_levels: int, mode: Any) -> None:
    lm, prompts, paths = build_lm(name).double(), random_prompts(5), random_paths(12, n_levels)
    scores = score_paths(lm, *prompts, paths.expand(5, -1, -1), mode=mode)
    torch.testing.assert_close(scores, plain_path_scores(lm, *prompts, paths), rtol=0, atol=1e-9)


def test_equals_the_scores_of_the_search() -> None:
    lm, prompts, paths = build_lm("llama").double(), random_prompts(5), random_paths(300)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 10)
    torch.testing.assert_close(score_paths(lm, *prompts, paths[items]), scores, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["fold", "expand", "recompute"])
def test_chunks_change_nothing(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts, paths = build_lm("gpt2").double(), random_prompts(3), random_paths(50)
    candidates = paths[torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(0))]
    whole = score_paths(lm, *prompts, candidates, mode=mode)
    monkeypatch.setattr(beam, "MAX_CHUNK", 7)
    torch.testing.assert_close(score_paths(lm, *prompts, candidates, mode=mode), whole, rtol=0, atol=1e-9)


def test_a_user_may_have_the_same_candidate_twice() -> None:
    lm, prompts, paths = build_lm("llama"), random_prompts(2), random_paths(3)
    scores = score_paths(lm, *prompts, paths[[0, 1, 0]].expand(2, -1, -1))
    torch.testing.assert_close(scores[:, 0], scores[:, 2])


def test_wrong_paths_are_refused() -> None:
    lm, prompts, paths = build_lm("llama"), random_prompts(3), random_paths(4)
    for wrong in (paths, paths.expand(2, -1, -1), paths.expand(3, -1, -1).float(), paths.expand(3, -1, -1)[:, :0]):
        with pytest.raises(ValueError, match=r"paths must be int64 \[B, C, L\]"):
            score_paths(lm, *prompts, wrong)
    with pytest.raises(ValueError, match="vocabulary has 400 tokens"):
        score_paths(lm, *prompts, torch.full((3, 1, 2), 400))
