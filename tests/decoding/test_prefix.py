"""An instruction that prompts share is computed once, changes no result, and is never out of date."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import build_lm, random_paths, random_prompts
from torch import nn

from recbole_lcrec.decoding import SharedPrefix, TokenTrie, constrained_beam_search, score_paths

INSTRUCTION = torch.tensor([5, 17, 3, 99])


def spelled_out(prompts: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the instruction in front of left-padded prompts, one by one."""
    rows = [torch.cat([INSTRUCTION, ids[mask.bool()]]) for ids, mask in zip(*prompts, strict=True)]
    width = max(map(len, rows)) + 2
    ids = torch.stack([torch.cat([torch.zeros(width - len(row), dtype=torch.int64), row]) for row in rows])
    mask = torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows])
    return ids, mask


@pytest.mark.parametrize("mode", ["fold", "expand", "recompute", "auto"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "cacheless"])
def test_equals_whole_prompts(name: str, mode: Any) -> None:
    if name == "cacheless" and mode in ("fold", "expand"):
        pytest.skip("the model has no cache")
    lm, prompts, paths = build_lm(name).double(), random_prompts(6), random_paths(120)
    prefix, trie = SharedPrefix(INSTRUCTION), TokenTrie(paths)
    items, scores = constrained_beam_search(lm, *prompts, trie, 10, mode=mode, prefix=prefix)
    expected_items, expected = constrained_beam_search(lm, *spelled_out(prompts), trie, 10, mode=mode)
    assert torch.equal(items, expected_items)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
    given = score_paths(lm, *prompts, paths[items], mode=mode, prefix=prefix)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)


def forwards_of(lm: Any, prefix: SharedPrefix) -> int:
    """Count forwards of a search of two levels: the prefix (if it is computed), prompts, last tokens, beams."""
    calls = []
    handle = lm.model.embed_tokens.register_forward_hook(lambda module, args, output: calls.append(args[0].shape))
    constrained_beam_search(lm, *random_prompts(2), TokenTrie(random_paths(20, 2)), 5, prefix=prefix, mode="fold")
    handle.remove()
    return len(calls)


@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, torch.optim.AdamW, lambda p, lr: torch.optim.AdamW(p, lr, fused=True)]
)
def test_is_computed_once_and_again_after_every_change_of_the_weights(optimizer: Any) -> None:
    lm, prefix = build_lm("llama"), SharedPrefix(INSTRUCTION)
    forwards_of(lm, prefix)  # looks at the model, too
    assert forwards_of(lm, prefix) == 3
    lm(input_ids=INSTRUCTION[None]).logits.sum().backward()
    optimizer(lm.parameters(), lr=0.1).step()
    assert [forwards_of(lm, prefix), forwards_of(lm, prefix)] == [4, 3]
    lm.load_state_dict(build_lm("llama", initializer_range=0.1).state_dict())
    assert [forwards_of(lm, prefix), forwards_of(lm, prefix)] == [4, 3]
    with torch.autocast("cpu", torch.bfloat16):
        assert forwards_of(lm, prefix) == 4
    nn.init.ones_(lm.model.norm.weight)
    assert forwards_of(lm, prefix) == 4
