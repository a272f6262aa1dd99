"""Log-probabilities from hidden states, in blocks, against a plain log-softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from decoding_helpers import VOCABULARY, build_lm, plain_path_scores, random_paths, random_prompts
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

from recbole_lcrec.decoding import (
    ChildSoftmax,
    LevelSoftmax,
    Softmax,
    TokenTrie,
    choose_mode,
    constrained_beam_search,
    score_paths,
)
from recbole_lcrec.decoding.readout import HeadReadout, LogitsReadout, split_model

Path = tuple[int, ...]

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


@pytest.mark.parametrize("likely", [True, False])
def test_what_bfloat16_weighs_is_small_or_weighed_again(likely: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, states = nn.Linear(64, 4000, bias=True), torch.randn(50, 64)
    tokens = torch.arange(1990, 2100)
    with torch.no_grad():
        head.weight[tokens] += 0.5 * states.mean(0)
        head.bias[tokens] = 18.0 if likely else 0.0
        logits = (states.double() @ head.weight.double().t()) + head.bias.double()
        expected = logits[:, tokens] - logits.logsumexp(-1, keepdim=True)
        weights = []
        monkeypatch.setattr("recbole_lcrec.decoding.readout.HALF_PAYS", 0)
        monkeypatch.setattr("recbole_lcrec.decoding.readout.native_bfloat16", lambda device: True)
        others = HeadReadout._others

        def noting(self: Any, given: Any, known: Any, total: Any, weight: Any, *more: Any) -> Any:
            weights.append((weight.dtype, len(given)))
            return others(self, given, known, total, weight, *more)

        monkeypatch.setattr(HeadReadout, "_others", noting)
        found = HeadReadout(head).log_probs(states, tokens)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)
    assert weights[0] == (torch.float32, 50)
    assert weights[1:] == [(torch.bfloat16 if likely else torch.float32, 50)]


def test_likelier_tokens_do_not_overflow() -> None:
    head, states = nn.Linear(16, VOCABULARY), torch.randn(5, 16)
    with torch.no_grad():
        head.bias[7] = 200.0
    expected = head(states).log_softmax(-1)[:, TOKENS]
    torch.testing.assert_close(HeadReadout(head).log_probs(states, TOKENS), expected)


def test_half_precision_is_scored_in_float32() -> None:
    head = nn.Linear(16, VOCABULARY).bfloat16()
    assert HeadReadout(head).log_probs(torch.randn(2, 3, 16).bfloat16(), TOKENS).dtype == torch.float32


def narrow_scores(
    lm: Any, prompts: Any, paths: torch.Tensor, may_follow: Callable[[Path], Sequence[int]]
) -> torch.Tensor:
    """Return scores [B, N] with a softmax over the tokens that may follow each prefix, by plain forwards."""
    rows = []
    among = torch.zeros(*paths.shape, VOCABULARY, dtype=torch.bool)
    for item, path in enumerate(paths.tolist()):
        for level in range(len(path)):
            among[item, level, may_follow(tuple(path[:level]))] = True
    for ids, mask in zip(*prompts, strict=True):
        whole = torch.cat([ids[mask.bool()].expand(len(paths), -1), paths], dim=1)
        logits = lm(input_ids=whole, use_cache=False).logits[:, -paths.shape[1] - 1 : -1]
        log_probs = logits.masked_fill(~among, -torch.inf).log_softmax(-1)
        rows.append(log_probs.gather(2, paths.unsqueeze(-1)).sum((1, 2)))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["level", "children"])
@pytest.mark.parametrize("mode", ["fold", "expand", "recompute"])
def test_narrower_softmaxes(mode: Any, kind: str) -> None:
    lm, prompts, paths = build_lm("llama").double(), random_prompts(4), random_paths(60)
    softmax: Softmax
    if kind == "level":
        softmax = LevelSoftmax([torch.arange(200, 215)] * 3)
        expected = narrow_scores(lm, prompts, paths, lambda prefix: range(200, 215))
    else:
        softmax = ChildSoftmax(TokenTrie(paths))
        of_prefix: dict[Path, set[int]] = {}
        for path in map(tuple, paths.tolist()):
            for level in range(len(path)):
                of_prefix.setdefault(path[:level], set()).add(path[level])
        expected = narrow_scores(lm, prompts, paths, lambda prefix: list(of_prefix[prefix]))
        torch.testing.assert_close(expected.exp().sum(1), torch.ones(len(expected)).double())
    expected, order = expected.sort(descending=True)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, mode=mode, softmax=softmax)
    assert torch.equal(items, order)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
    given = score_paths(lm, *prompts, paths[items], mode=mode, softmax=softmax)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)
    vocabulary = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, mode=mode)
    assert not torch.equal(vocabulary[0], items), "another ranking"


def test_children_of_a_larger_catalogue_compete_too() -> None:
    """A search among some items, or without a user's history, gives each the probability it has among all."""
    lm, prompts, paths = build_lm("llama").double(), random_prompts(4), random_paths(60)
    softmax = ChildSoftmax(TokenTrie(paths))
    whole, of_whole = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, softmax=softmax)
    by_row = torch.zeros_like(of_whole).scatter(1, whole, of_whole)
    some = torch.arange(0, 60, 7)
    rows, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths[some]), 60, softmax=softmax)
    torch.testing.assert_close(scores, by_row.gather(1, some[rows]), rtol=0, atol=1e-9)
    seen = whole[:, :5]
    rows, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 50, softmax=softmax, excluded=seen)
    assert torch.equal(rows, whole[:, 5:55])
    torch.testing.assert_close(scores, of_whole[:, 5:55], rtol=0, atol=1e-9)


def test_a_path_outside_the_trie_has_no_probability() -> None:
    lm, prompts, paths = build_lm("llama"), random_prompts(4), random_paths(60)
    with pytest.raises(ValueError, match="paths of the trie only"):
        score_paths(lm, *prompts, paths.expand(4, -1, -1), softmax=ChildSoftmax(TokenTrie(paths[1:])))


def capped_lm(name: str, initializer_range: float = 0.3, cap: float = 3.0) -> Any:
    """Return a model whose logits are more than the head's output."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": initializer_range,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(0)
    lm: Any
    if name == "granite":
        lm = GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=4.0)).double()
    else:
        lm = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=cap))
    return lm.eval()


@pytest.mark.parametrize("name", ["granite", "gemma2"])
def test_models_whose_logits_are_more_than_the_head_still_rank_right(name: str) -> None:
    lm = capped_lm(name)
    assert split_model(lm) is None
    assert split_model(build_lm("llama")) is not None
    prompts, paths = random_prompts(4), random_paths(60)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60)
    expected = plain_path_scores(lm, *prompts, paths)
    torch.testing.assert_close(scores, expected.gather(1, items), rtol=0, atol=1e-4)
    assert (scores.diff(dim=1) <= 0).all()


def test_a_soft_cap_is_seen_before_the_weights_are_there() -> None:
    """A loaded run asks while its model has the small logits of a new one, which a cap of 30 leaves as they are."""
    lm = capped_lm("gemma2", initializer_range=0.002, cap=30.0)
    assert lm(input_ids=torch.arange(9).view(1, -1)).logits.abs().max() < 0.1
    assert split_model(lm) is None


def test_the_truth_of_the_probe_is_the_model_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_lcrec.decoding.readout._is_split", lambda lm, parts: True)
    assert choose_mode(capped_lm("gemma2")) == "recompute"
