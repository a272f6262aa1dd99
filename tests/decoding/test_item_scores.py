"""Scores of whole items beside those of their paths, against scoring everything and against sums over subtrees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import build_lm, plain_path_scores, random_paths, random_prompts
from torch import Tensor

from recbole_lcrec.decoding import ItemScores, TokenTrie, constrained_beam_search, path_steps, score_paths

MODES: list[Any] = ["fold", "expand", "recompute"]


def whole_items(trie: TokenTrie, rows: Tensor, vectors: Tensor, weight: float) -> ItemScores:
    """Judge by inner products with ``vectors`` of all items, of which the trie has ``rows``."""
    columns = rows[trie.rows(torch.arange(trie.n_items))]
    return ItemScores(trie, lambda states: (states @ vectors.T).log_softmax(-1)[:, columns], weight)


def expected_scores(lm: Any, prompts: tuple[Tensor, Tensor], paths: Tensor, vectors: Tensor, weight: float) -> Tensor:
    """Return the scores [B, n_items] by plain forwards."""
    states = []
    for ids, mask in zip(*prompts, strict=True):
        real = ids[mask.bool()].unsqueeze(0)
        states.append(lm.base_model(input_ids=real).last_hidden_state[0, -1])
    of_items = (torch.stack(states) @ vectors.T).log_softmax(-1)
    return (1 - weight) * plain_path_scores(lm, *prompts, paths) + weight * of_items


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_all_items_are_ranked_by_the_weighted_mean(name: str, weight: float, mode: Any) -> None:
    lm, prompts, paths = build_lm(name).double(), random_prompts(5), random_paths(60, 3, 6)
    vectors = torch.randn(60, 32, generator=torch.Generator().manual_seed(1)).double()
    expected = expected_scores(lm, prompts, paths, vectors, weight)
    rows = torch.arange(10, 50)  # the others have a share of the probability, too
    trie = TokenTrie(paths[rows])
    items = whole_items(trie, rows, vectors, weight)
    found, scores = constrained_beam_search(lm, *prompts, trie, 40, mode, items=items)
    values, order = expected[:, rows].sort(descending=True)
    assert torch.equal(found, order)
    torch.testing.assert_close(scores, values, rtol=0, atol=1e-9)
    exact = score_paths(lm, *prompts, paths[rows].expand(5, -1, -1), mode, items=items)
    torch.testing.assert_close(exact, expected[:, rows], rtol=0, atol=1e-9)
    steps = path_steps(lm, prompts[0][:1], prompts[1][:1], paths[20], trie, mode, items=items)
    total = torch.stack([one.scores[one.tokens == token] for one, token in zip(steps, paths[20], strict=True)]).sum(
        dim=0
    )
    torch.testing.assert_close(total, expected[0, 20:21], rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="only if their paths are in the trie"):
        score_paths(lm, *prompts, paths[:3].expand(5, -1, -1), mode, items=items)


@pytest.mark.parametrize("excluding", [False, True])
@torch.no_grad()
def test_beams_follow_the_items_below_them(excluding: bool) -> None:
    lm, prompts, paths = build_lm("llama").double(), random_prompts(5), random_paths(60, 3, 6)
    vectors = torch.randn(60, 32, generator=torch.Generator().manual_seed(1)).double()
    trie, allowed = TokenTrie(paths), torch.ones(5, 60, dtype=torch.bool)
    excluded = None
    if excluding:
        excluded = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(n)) for n in range(5)])
        excluded = excluded[:, :40].clone()
        excluded[:, 30:] = -1
        for user, closed in enumerate(excluded):
            allowed[user, closed[closed >= 0]] = False
    weight, n_beams = 0.4, 4
    items = whole_items(trie, torch.arange(60), vectors, weight)
    found, scores = constrained_beam_search(lm, *prompts, trie, n_beams, excluded=excluded, items=items)
    of_items = expected_scores(lm, prompts, paths, vectors, 1.0)
    # what a prefix is worth: the log-probability of its codes, and that of all allowed items below it
    prefixes = [sorted({tuple(path[:depth]) for path in paths.tolist()}) for depth in range(4)]
    of_codes = [
        plain_path_scores(lm, *prompts, torch.tensor(some)) if some[0] else torch.zeros(5, 1) for some in prefixes
    ]
    for user in range(5):
        beams: list[tuple[int, ...]] = [()]
        for depth in (1, 2, 3):
            worth = {}
            for number, prefix in enumerate(prefixes[depth]):
                below = [n for n, path in enumerate(paths.tolist()) if tuple(path[:depth]) == prefix]
                below = [n for n in below if allowed[user, n]]
                if below and prefix[:-1] in beams:
                    mass = of_items[user, below].logsumexp(0)
                    worth[prefix] = float((1 - weight) * of_codes[depth][user, number] + weight * mass)
            beams = sorted(worth, key=worth.__getitem__, reverse=True)[:n_beams]
        assert [tuple(path) for path in paths[found[user]].tolist()] == beams
        torch.testing.assert_close(scores[user].tolist(), [worth[beam] for beam in beams], rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_user_with_nothing_left() -> None:
    lm, prompts, paths = build_lm("llama"), random_prompts(2), random_paths(12, 2, 4)
    trie = TokenTrie(paths)
    items = whole_items(trie, torch.arange(12), torch.randn(12, 32), 0.5)
    excluded = torch.stack([torch.arange(12), torch.arange(12).where(torch.arange(12) > 0, -1)])
    found, scores = constrained_beam_search(lm, *prompts, trie, 3, excluded=excluded, items=items)
    assert (found[0] == -1).all() and (scores[0] == -torch.inf).all()
    assert found[1].tolist() == [0, -1, -1] and bool(scores[1, 0].isfinite())
