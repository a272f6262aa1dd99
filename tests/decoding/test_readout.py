"""Log-probabilities from hidden states, in blocks, against a plain log-softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import VOCABULARY, build_lm, plain_path_scores, random_paths, random_prompts
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

from recbole_lcrec.decoding import TokenTrie, constrained_beam_search, score_paths
from recbole_lcrec.decoding.readout import HeadReadout, LogitsReadout, split_model

TOKENS = torch.tensor([3, 1, 250, 399])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("block", [1, 7, 2**19])
@pytest.mark.parametrize("among", [None, torch.arange(200, 400)])
def test_blocks_give_the_log_softmax(bias: bool, block: int, among: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_lcrec.decoding.readout.BLOCK_LOGITS", block)
    torch.manual_seed(0)
    head, states = nn.Linear(16, VOCABULARY, bias=bias).double(), 9 * torch.randn(2, 5, 16).double()
    logits = head(states)
    total = (logits if among is None else logits[..., among]).exp().sum(-1, keepdim=True).log()
    expected = logits[..., TOKENS] - total
    torch.testing.assert_close(HeadReadout(head).log_probs(states, TOKENS, among), expected)
    torch.testing.assert_close(LogitsReadout().log_probs(logits, TOKENS, among), expected)


def test_half_precision_is_scored_in_float32() -> None:
    head = nn.Linear(16, VOCABULARY).bfloat16()
    assert HeadReadout(head).log_probs(torch.randn(2, 3, 16).bfloat16(), TOKENS).dtype == torch.float32


def level_scores(lm: Any, prompts: Any, paths: torch.Tensor, levels: list[torch.Tensor]) -> torch.Tensor:
    """Return scores [B, N] with a softmax over each level's tokens, by plain forwards."""
    rows = []
    for ids, mask in zip(*prompts, strict=True):
        whole = torch.cat([ids[mask.bool()].expand(len(paths), -1), paths], dim=1)
        logits = lm(input_ids=whole, use_cache=False).logits[:, -paths.shape[1] - 1 : -1]
        parts = [
            logits[:, level].gather(1, paths[:, level : level + 1]).squeeze(1)
            - logits[:, level][:, tokens].logsumexp(1)
            for level, tokens in enumerate(levels)
        ]
        rows.append(torch.stack(parts).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("mode", ["fold", "expand", "recompute"])
def test_softmax_over_the_levels_codes_alone(mode: Any) -> None:
    lm, prompts, paths = build_lm("llama").double(), random_prompts(4), random_paths(60)
    levels = [torch.arange(200, 215)] * 3
    expected, order = level_scores(lm, prompts, paths, levels).sort(descending=True)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, mode=mode, level_tokens=levels)
    assert torch.equal(items, order)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
    given = score_paths(lm, *prompts, paths[items], mode=mode, level_tokens=levels)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)
    vocabulary = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, mode=mode)
    assert not torch.equal(vocabulary[0], items), "another ranking"


@pytest.mark.parametrize("name", ["granite", "gemma2"])
def test_models_whose_logits_are_more_than_the_head_still_rank_right(name: str) -> None:
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(0)
    lm: Any
    if name == "granite":
        lm = GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=4.0)).double().eval()
    else:
        lm = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=3.0)).eval()
    assert split_model(lm) is None
    assert split_model(build_lm("llama")) is not None
    prompts, paths = random_prompts(4), random_paths(60)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60)
    expected = plain_path_scores(lm, *prompts, paths)
    torch.testing.assert_close(scores, expected.gather(1, items), rtol=0, atol=1e-4)
    assert (scores.diff(dim=1) <= 0).all()
