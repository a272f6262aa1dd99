"""The trie against a dictionary of prefixes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from recbole_lcrec.decoding import TokenTrie


def random_distinct(n_items: int, n_levels: int, n_codes: int) -> Tensor:
    numbers = torch.randperm(n_codes**n_levels, generator=torch.Generator().manual_seed(3))[:n_items]
    return torch.stack([numbers // n_codes**level % n_codes for level in range(n_levels)], dim=1)


def walk(trie: TokenTrie) -> dict[tuple[int, ...], int]:
    """Return {path: row} by asking for all children of all nodes, depth by depth."""
    prefixes: list[tuple[int, ...]] = [()]
    for depth in range(trie.n_levels):
        found: dict[int, tuple[int, ...]] = {}
        children = trie.children(depth, torch.arange(len(prefixes)).unsqueeze(0))
        tokens_of = trie.level_tokens(depth)[children.columns]
        parts = (values[0].tolist() for values in (children.nodes, tokens_of, children.valid))
        for prefix, nodes, tokens, valid in zip(prefixes, *parts, strict=True):
            assert any(valid)
            found.update({n: (*prefix, t) for n, t, v in zip(nodes, tokens, valid, strict=True) if v})
        assert sorted(found) == list(range(trie.level_sizes[depth]))
        prefixes = [found[node] for node in range(len(found))]
    rows = trie.rows(torch.arange(len(prefixes))).tolist()
    return dict(zip(prefixes, rows, strict=True))


SKEWED = torch.tensor([[5, 1, 1]] + [[9, 2, code] for code in range(50)] + [[9, code, 0] for code in range(3, 20)])


@pytest.mark.parametrize(
    "paths",
    [
        random_distinct(40, 1, 50),
        random_distinct(60, 2, 9),
        random_distinct(200, 3, 7),
        random_distinct(81, 4, 3),
        torch.tensor([[3, 3, 3, 3]]),
        SKEWED,
    ],
    ids=["one_level", "two_levels", "three_levels", "complete", "one_item", "skewed"],
)
def test_walking_the_trie_finds_every_item_once(paths: Tensor) -> None:
    trie = TokenTrie(paths)
    assert walk(trie) == {tuple(path): row for row, path in enumerate(paths.tolist())}
    assert trie.n_items == len(paths)
    assert trie.n_levels == paths.shape[1]
    assert trie.level_sizes == tuple(len(paths[:, : d + 1].unique(dim=0)) for d in range(paths.shape[1]))


def test_prefixes_are_found() -> None:
    paths = random_distinct(60, 3, 7)
    trie = TokenTrie(paths + 3)
    everything = torch.cartesian_prod(*[torch.arange(12)] * 3)
    known = {tuple(path) for path in (paths + 3).tolist()}
    for depth in range(4):
        prefixes = {path[:depth] for path in known}
        nodes, there = trie.find(everything[:, :depth])
        assert there.tolist() == [tuple(prefix) in prefixes for prefix in everything[:, :depth].tolist()]
        numbers = {prefix: number for number, prefix in enumerate(sorted(prefixes))}
        expected = [numbers[tuple(prefix)] for prefix in everything[there][:, :depth].tolist()]
        assert nodes[there].tolist() == expected
        assert 0 <= nodes.min() and nodes.max() < len(prefixes)
    leaves, there = trie.find(paths[None] + 3)
    assert there.all() and torch.equal(trie.rows(leaves), torch.arange(60)[None])


def test_children_are_padded_to_the_largest_family_asked_for() -> None:
    trie = TokenTrie(SKEWED)
    small, large = trie.children(0, torch.zeros(1, 1, dtype=torch.int64)).nodes.flatten().tolist()
    assert trie.children(1, torch.tensor([[small]])).columns.shape == (1, 1, 1)
    both = trie.children(1, torch.tensor([[small, large], [large, large]]))
    assert both.columns.shape == (2, 2, 18)
    assert both.valid.sum(-1).tolist() == [[1, 18], [18, 18]]


def test_a_million_items_are_built_and_walked_in_tensor_operations() -> None:
    numbers = torch.randperm(2**21, generator=torch.Generator().manual_seed(0))[:1_000_000] * 1013
    paths = torch.stack([numbers >> shift & 255 for shift in (24, 16, 8, 0)], dim=1)
    trie = TokenTrie(paths)
    nodes, rows = torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 999_999])
    for depth in range(4):
        children = trie.children(depth, nodes)
        assert children.columns.shape[-1] <= 256
        is_next = children.valid & (trie.level_tokens(depth)[children.columns] == paths[rows, depth].view(2, 1, 1))
        nodes = children.nodes[is_next].view(2, 1)
    assert torch.equal(trie.rows(nodes.squeeze(1)), rows)


def test_trie_does_not_share_memory_with_its_argument() -> None:
    paths = SKEWED.clone()
    trie = TokenTrie(paths)
    paths.fill_(0)
    assert walk(trie) == walk(TokenTrie(SKEWED))


def test_duplicate_paths_are_refused_by_name() -> None:
    paths = random_distinct(30, 3, 5)
    paths[17] = paths[4]
    with pytest.raises(ValueError, match=rf"rows 4 and 17 are both \[{', '.join(map(str, paths[4].tolist()))}\]"):
        TokenTrie(paths)


@pytest.mark.parametrize(
    "paths",
    [
        torch.zeros(0, 3, dtype=torch.int64),
        torch.zeros(3, 0, dtype=torch.int64),
        torch.arange(4),
        torch.arange(8).view(2, 2, 2),
        torch.arange(8).view(4, 2).float(),
        torch.arange(8).view(4, 2).int(),
        torch.tensor([[1, -1]]),
    ],
)
def test_wrong_paths_are_refused(paths: Tensor) -> None:
    with pytest.raises(ValueError, match="paths must be"):
        TokenTrie(paths)


def test_nodes_without_children_are_refused() -> None:
    with pytest.raises(ValueError, match="depth must be 0 to 2"):
        TokenTrie(SKEWED).children(3, torch.zeros(1, 1, dtype=torch.int64))


def test_moving_to_the_same_device_is_free() -> None:
    trie = TokenTrie(SKEWED)
    assert trie.to("cpu") is trie
    moved = trie.to("meta")
    assert (moved.device.type, moved.n_items, moved.level_sizes) == ("meta", trie.n_items, trie.level_sizes)


def test_importing_the_package_does_not_import_transformers() -> None:
    command = "import sys, recbole_lcrec.decoding; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
