"""Beam search against transformers' generate and against scoring every item."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import build_lm, plain_path_scores, random_paths, random_prompts
from torch import Tensor

from recbole_lcrec.benchmarks.peers import generated_items
from recbole_lcrec.decoding import TokenTrie, constrained_beam_search

MODES: list[Any] = ["fold", "expand", "recompute"]


def search_in_batches(
    lm: Any, prompts: tuple[Tensor, Tensor], paths: Tensor, num_beams: int, batch_size: int = 40
) -> tuple[Tensor, Tensor]:
    trie = TokenTrie(paths)
    batches = zip(*(values.split(batch_size) for values in prompts), strict=True)
    found = [constrained_beam_search(lm, ids, mask, trie, num_beams) for ids, mask in batches]
    items, scores = zip(*found, strict=True)
    return torch.cat(items), torch.cat(scores)


@pytest.mark.parametrize(("name", "n_users", "n_levels"), [("llama", 200, 4), ("qwen2", 40, 3), ("gpt2", 40, 2)])
@pytest.mark.usefixtures("generate_in_float64")
def test_equals_generate_exactly_in_float64(name: str, n_users: int, n_levels: int) -> None:
    lm = build_lm(name).double()
    prompts, paths = random_prompts(n_users), random_paths(100, n_levels)
    items, scores = search_in_batches(lm, prompts, paths, num_beams=10)
    expected_items, expected_scores = generated_items(lm, *prompts, paths, num_beams=10)
    assert scores.dtype == expected_scores.dtype == torch.float64
    assert torch.equal(items, expected_items)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "n_users"), [("llama", 200), ("qwen2", 40), ("gpt2", 40)])
def test_equals_generate_in_float32_but_for_ties(name: str, n_users: int) -> None:
    lm = build_lm(name)
    prompts, paths = random_prompts(n_users, seed=1), random_paths(500)
    items, scores = search_in_batches(lm, prompts, paths, num_beams=10)
    expected_items, expected_scores = generated_items(lm, *prompts, paths, num_beams=10)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-4)
    for row, expected, row_scores in zip(items.tolist(), expected_items.tolist(), scores.tolist(), strict=True):
        score_of = dict(zip(row, row_scores, strict=True))
        for place, item in enumerate(expected):
            # An item that fell off the end must have tied with the one that took the last place.
            assert abs(score_of.get(item, row_scores[-1]) - row_scores[place]) < 1e-4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "n_levels"), [("llama", 1), ("qwen2", 2), ("gpt2", 4)])
def test_full_width_beam_equals_brute_force(name: str, n_levels: int, mode: Any) -> None:
    lm = build_lm(name).double()
    prompts, paths = random_prompts(5), random_paths(70 if n_levels > 1 else 12, n_levels)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), num_beams=len(paths), mode=mode)
    expected, order = plain_path_scores(lm, *prompts, paths).sort(descending=True)
    assert torch.equal(items, order)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_beams", [1, 7, 60, 100])
def test_every_beam_is_another_item_and_the_best_comes_first(num_beams: int) -> None:
    paths = random_paths(60)
    items, scores = constrained_beam_search(build_lm("llama"), *random_prompts(6), TokenTrie(paths), num_beams)
    assert items.shape == scores.shape == (6, min(num_beams, 60))
    assert all(len(set(row)) == len(row) for row in items.tolist())
    assert 0 <= items.min() and items.max() < 60
    assert (scores.diff(dim=1) <= 0).all()


# transformers' eager attention computes its softmax in float32, where float64's lowest value is -inf and the rows of
# padding become NaN: it cannot be run in float64.
@pytest.mark.parametrize(
    ("attention", "dtype", "atol"), [("sdpa", torch.float64, 1e-9), ("eager", torch.float32, 1e-4)]
)
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_all_modes_agree(name: str, attention: str, dtype: torch.dtype, atol: float) -> None:
    lm = build_lm(name, attn_implementation=attention).to(dtype)
    prompts, trie = random_prompts(8), TokenTrie(random_paths(300, 4))
    items, scores = constrained_beam_search(lm, *prompts, trie, 10, mode="recompute")
    for mode in [*MODES, "auto"]:
        other_items, other_scores = constrained_beam_search(lm, *prompts, trie, 10, mode=mode)
        assert torch.equal(other_items, items)
        torch.testing.assert_close(other_scores, scores, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_more_padding_changes_nothing(name: str) -> None:
    lm = build_lm(name).double()
    (input_ids, mask), trie = random_prompts(8), TokenTrie(random_paths(300))
    items, scores = constrained_beam_search(lm, input_ids, mask, trie, 10)
    more = torch.zeros(8, 9, dtype=torch.int64)
    padded = torch.cat([more + 5, input_ids], 1), torch.cat([more, mask], 1)
    padded_items, padded_scores = constrained_beam_search(lm, *padded, trie, 10)
    assert torch.equal(padded_items, items)
    torch.testing.assert_close(padded_scores, scores, rtol=0, atol=1e-9)


def test_batching_changes_nothing() -> None:
    lm, prompts, paths = build_lm("llama").double(), random_prompts(12), random_paths(300)
    items, scores = search_in_batches(lm, prompts, paths, 10, batch_size=12)
    single_items, single_scores = search_in_batches(lm, prompts, paths, 10, batch_size=1)
    assert torch.equal(items, single_items)
    torch.testing.assert_close(scores, single_scores, rtol=0, atol=1e-9)


def test_bfloat16_models_are_scored_in_float32() -> None:
    lm, prompts, paths = build_lm("llama").bfloat16(), random_prompts(4), random_paths(60)
    items, scores = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60)
    assert scores.dtype == torch.float32
    assert items.sort(dim=1).values.equal(torch.arange(60).expand(4, -1))


def test_autocast_does_not_change_the_way_beams_are_run() -> None:
    lm, prompts, trie = build_lm("llama"), random_prompts(4), TokenTrie(random_paths(60))
    with torch.autocast("cpu", torch.bfloat16):
        automatic = constrained_beam_search(lm, *prompts, trie, 10)
        folded = constrained_beam_search(lm, *prompts, trie, 10, mode="fold")
    assert all(torch.equal(*pair) for pair in zip(automatic, folded, strict=True))


def test_impossible_tokens_still_give_items() -> None:
    lm, prompts, paths = build_lm("llama", tie_word_embeddings=False), random_prompts(3), random_paths(60)

    def forbid_codes(module: Any, args: Any, logits: Tensor) -> Tensor:
        return logits.index_fill(-1, paths[:30, 0].unique(), -torch.inf)

    handle = lm.lm_head.register_forward_hook(forbid_codes)
    items, _ = constrained_beam_search(lm, *prompts, TokenTrie(paths), 60, mode="fold")
    handle.remove()
    assert items.sort(dim=1).values.equal(torch.arange(60).expand(3, -1))


def test_peft_wrapped_models_work() -> None:
    peft = pytest.importorskip("peft")
    lm = build_lm("llama").double()
    prompts, trie = random_prompts(4), TokenTrie(random_paths(60))
    plain = constrained_beam_search(lm, *prompts, trie, 10)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped = peft.get_peft_model(lm, config).double().eval()
    folded = constrained_beam_search(wrapped, *prompts, trie, 10, mode="fold")
    truth = constrained_beam_search(wrapped, *prompts, trie, 10, mode="recompute")
    assert torch.equal(folded[0], truth[0])
    torch.testing.assert_close(folded[1], truth[1], rtol=0, atol=1e-9)
    assert not torch.equal(folded[1], plain[1])


def test_prompts_run_once_per_user_when_folded() -> None:
    lm, prompts, trie = build_lm("llama"), random_prompts(4), TokenTrie(random_paths(300))
    constrained_beam_search(lm, *prompts, trie, 10, mode="fold")  # the first call looks at the model
    shapes = []
    handle = lm.model.embed_tokens.register_forward_hook(lambda module, args, output: shapes.append(args[0].shape))
    constrained_beam_search(lm, *prompts, trie, 10, mode="fold")
    handle.remove()
    assert shapes == [(4, 11), (4, 1), (4, 10), (4, 10)]


def test_wrong_arguments_are_refused() -> None:
    lm, (input_ids, mask), trie = build_lm("llama"), random_prompts(3), TokenTrie(random_paths(60))
    right_padded = mask.flip(1)
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("padded on the left", (input_ids, right_padded, trie, 5)),
        ("padded on the left", (input_ids, torch.zeros_like(mask), trie, 5)),
        ("of one shape", (input_ids, mask[:, 1:], trie, 5)),
        ("of one shape", (input_ids[0], mask[0], trie, 5)),
        ("num_beams must be", (input_ids, mask, trie, 0)),
        ("mode must be one of", (input_ids, mask, trie, 5, "folded")),
        ("vocabulary has 400 tokens", (input_ids, mask, TokenTrie(torch.tensor([[400]])), 5)),
        ("the trie is on meta", (input_ids, mask, trie.to("meta"), 5)),
    ]
    for message, arguments in wrong:
        with pytest.raises(ValueError, match=message):
            constrained_beam_search(lm, *arguments)
