"""Items that single users must not be given: the beams are those of a trie without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import (
    FIRST_CODE,
    build_lm,
    build_t5,
    plain_path_scores,
    random_inputs,
    random_paths,
    random_prompts,
)
from torch import Tensor

from recbole_lcrec.decoding import TokenTrie, constrained_beam_search
from recbole_lcrec.decoding.encoder_decoder import encoder_decoder_beam_search
from recbole_lcrec.decoding.exclusion import ExcludedItems

MODES: list[Any] = ["fold", "expand", "recompute"]


def random_exclusions(n_users: int, n_items: int, most: int, seed: int = 0) -> Tensor:
    """Return [n_users, most] rows to exclude, 0 to ``most`` of them per user, in any order, padded with -1."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.stack([torch.randperm(n_items, generator=generator)[:most] for _ in range(n_users)])
    counts = torch.randint(0, most + 1, (n_users, 1), generator=generator)
    return rows.where(torch.rand(n_users, most, generator=generator).argsort(1) < counts, -1)


def allowed_items(excluded: Tensor, n_items: int) -> list[Tensor]:
    """Return each user's other rows."""
    return [torch.tensor(sorted(set(range(n_items)) - set(row.tolist())), dtype=torch.int64) for row in excluded]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n_levels", "n_codes", "num_beams"), [(1, 60, 10), (2, 8, 10), (3, 5, 4), (4, 3, 20)])
def test_beams_are_those_of_a_trie_of_the_allowed_items(
    mode: Any, n_levels: int, n_codes: int, num_beams: int
) -> None:
    lm, paths = build_lm("llama").double(), random_paths(60, n_levels, n_codes)
    ids, mask = random_prompts(6)
    excluded = random_exclusions(6, len(paths), 55)
    rows, scores = constrained_beam_search(lm, ids, mask, TokenTrie(paths), num_beams, mode, excluded=excluded)
    assert rows.shape == scores.shape == (6, num_beams)
    for user, allowed in enumerate(allowed_items(excluded, len(paths))):
        alone = slice(user, user + 1)
        found, values = constrained_beam_search(lm, ids[alone], mask[alone], TokenTrie(paths[allowed]), num_beams)
        n = min(num_beams, len(allowed))
        assert rows[user, :n].tolist() == allowed[found[0]].tolist()
        torch.testing.assert_close(scores[user, :n], values[0], rtol=0, atol=1e-9)
        assert (rows[user, n:] == -1).all() and (scores[user, n:] == -torch.inf).all()


def test_full_width_beams_equal_scoring_everything_and_filtering() -> None:
    lm, paths = build_lm("qwen2").double(), random_paths(40, 3, 5)
    ids, mask = random_prompts(5)
    excluded = random_exclusions(5, 40, 39, seed=3)
    rows, scores = constrained_beam_search(lm, ids, mask, TokenTrie(paths), 40, excluded=excluded)
    exact = plain_path_scores(lm, ids, mask, paths)
    for user, allowed in enumerate(allowed_items(excluded, 40)):
        order = allowed[exact[user, allowed].argsort(descending=True)]
        assert rows[user, : len(order)].tolist() == order.tolist() and (rows[user, len(order) :] == -1).all()
        torch.testing.assert_close(scores[user, : len(order)], exact[user, order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_beams", [1, 3, 20])
def test_whole_subtrees_and_users_with_nothing_left(num_beams: int) -> None:
    # the first code has one item, the second ten: without the ten, fewer nodes are left than a level has beams
    paths = FIRST_CODE + torch.tensor([[0, 0, 0], *([1, n // 5, n % 5] for n in range(10))])
    lm, (ids, mask) = build_lm("llama"), random_prompts(4)
    everything = torch.arange(11)
    excluded = torch.full((4, 11), -1)
    excluded[0, :10] = everything[1:].flip(0)  # a whole subtree below the root
    excluded[1, :5] = everything[1:6]  # a subtree one level below
    excluded[2] = everything
    rows, scores = constrained_beam_search(lm, ids, mask, TokenTrie(paths), num_beams, excluded=excluded)
    width = min(num_beams, 11)
    assert rows.shape == (4, width) and rows[0].tolist() == [0] + [-1] * (width - 1)
    left = rows[1][rows[1] >= 0].tolist()
    assert len(set(left)) == len(left) == min(width, 6) and set(left) <= {0, *range(6, 11)}
    assert (rows[2] == -1).all() and (scores[2] == -torch.inf).all() and not scores.isnan().any()
    alone = constrained_beam_search(lm, ids[3:], mask[3:], TokenTrie(paths), num_beams)
    assert rows[3].tolist() == alone[0][0].tolist(), "what others must not get changes nothing for a user"


def test_beams_of_an_encoder_decoder() -> None:
    lm, paths = build_t5("t5").double(), random_paths(30, 3, 4)
    ids, mask = random_inputs(5)
    excluded = random_exclusions(5, 30, 28, seed=1)
    rows, scores = encoder_decoder_beam_search(lm, ids, mask, TokenTrie(paths), 8, excluded=excluded)
    for user, allowed in enumerate(allowed_items(excluded, 30)):
        alone = slice(user, user + 1)
        found, values = encoder_decoder_beam_search(lm, ids[alone], mask[alone], TokenTrie(paths[allowed]), 8)
        n = min(8, len(allowed))
        assert rows[user, :n].tolist() == allowed[found[0]].tolist() and (rows[user, n:] == -1).all()
        torch.testing.assert_close(scores[user, :n], values[0], rtol=0, atol=1e-9)


def test_excluding_nothing_changes_nothing() -> None:
    lm, trie, prompts = build_lm("llama"), TokenTrie(random_paths(50)), random_prompts(3)
    plain = constrained_beam_search(lm, *prompts, trie, 10)
    for nobody in (torch.full((3, 4), -1), torch.zeros(3, 0, dtype=torch.int64)):
        rows, scores = constrained_beam_search(lm, *prompts, trie, 10, excluded=nobody)
        assert torch.equal(rows, plain[0]) and torch.equal(scores, plain[1])


def test_a_node_is_closed_when_all_items_below_it_are_excluded() -> None:
    paths = random_paths(80, 3, 6, seed=2)
    trie, excluded = TokenTrie(paths), random_exclusions(3, 80, 70, seed=5)
    excluded[0, 1] = excluded[0, 0]  # a row that is named twice
    closed = ExcludedItems(trie, excluded)
    prefixes = {depth: sorted({tuple(p) for p in paths[:, :depth].tolist()}) for depth in (1, 2, 3)}
    for depth, nodes in prefixes.items():
        numbers = torch.arange(len(nodes)).view(1, 1, -1).expand(3, 1, -1)
        found = closed.closed(depth, numbers)
        for user in range(3):
            rows = set(excluded[user].tolist())
            for number, prefix in enumerate(nodes):
                below = [row for row, path in enumerate(paths.tolist()) if tuple(path[:depth]) == prefix]
                assert bool(found[user, 0, number]) == all(row in rows for row in below)


@pytest.mark.parametrize("rows", [torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3)])
def test_rows_that_are_none_are_refused(rows: Tensor) -> None:
    with pytest.raises(ValueError, match="excluded rows must be"):
        ExcludedItems(TokenTrie(random_paths(50)), rows)
