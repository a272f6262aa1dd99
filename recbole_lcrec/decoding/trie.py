"""The prefix tree of all item paths: what a beam may still become.

Decoding asks one question at every step: which tokens may follow these prefixes? A dictionary of prefixes answers it
one prefix at a time in Python; the arrays below answer it for a whole batch of beams in a few tensor operations, and
their cost depends on the number of children asked for, never on the size of the catalogue.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Children(NamedTuple):
    """The children of a batch of nodes, padded to the largest family. All shaped [..., C]."""

    nodes: Tensor
    """Node numbers one depth further down; 0 where ``valid`` is false."""
    columns: Tensor
    """Places of those nodes' tokens in `TokenTrie.level_tokens`; some existing place where ``valid`` is false."""
    valid: Tensor
    """Whether the entry is a child at all."""


class TokenTrie:
    """An immutable trie over the vocabulary ids of all item paths, stored breadth first.

    Depth 0 holds the root; depth d, from 1 to ``n_levels``, holds one node per distinct prefix of length d. Nodes of a
    depth are numbered in lexicographic order of their prefixes, so the children of node i are the consecutive nodes
    ``starts[i]`` to ``starts[i + 1] - 1`` of the next depth. Leaves map back to the catalogue rows of the items, by
    which items are always named outside the trie, whichever items it has.

    Args:
        paths: [n_items, L] int64, the items' paths in vocabulary ids.
        rows: [n_items] int64, their catalogue rows, all different; None for a whole catalogue, 0 to ``n_items - 1``.

    Raises:
        ValueError: if the paths are empty, not int64, not of rank 2, have a negative id or two equal rows.

    Example:
        >>> trie = TokenTrie(torch.tensor([[7, 1], [7, 2], [5, 1]]))
        >>> trie.level_sizes
        (2, 3)
        >>> trie.level_tokens(0)[trie.children(0, torch.tensor([[0]])).columns]
        tensor([[[5, 7]]])
    """

    def __init__(self, paths: Tensor, rows: Tensor | None = None) -> None:
        _check_paths(paths)
        order = _lexicographic_order(paths)
        paths = paths[order]
        first_rows = _first_rows(paths)
        if first_rows[-1].numel() < len(paths):
            raise ValueError(_describe_duplicate(paths, order))
        self._rows = order if rows is None else rows[order]
        distinct = [paths[rows, level].unique(return_inverse=True) for level, rows in enumerate(first_rows)]
        self._level_tokens, self._columns = zip(*distinct, strict=True)
        self._starts = tuple(_child_starts(first_rows, len(paths)))
        self._max_token = int(paths.max())

    @property
    def n_items(self) -> int:
        """Number of paths."""
        return self._rows.numel()

    @property
    def n_levels(self) -> int:
        """Length L of every path."""
        return len(self._columns)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of nodes at depth 1, ..., L. It never shrinks with depth: every inner node has a child."""
        return tuple(columns.numel() for columns in self._columns)

    @property
    def max_token(self) -> int:
        """Largest vocabulary id in any path."""
        return self._max_token

    @property
    def device(self) -> torch.device:
        """Where the arrays lie."""
        return self._rows.device

    def level_tokens(self, depth: int) -> Tensor:
        """Return the distinct vocabulary ids that paths have at a depth, 0 to ``n_levels - 1``, ascending: [C]."""
        return self._level_tokens[depth]

    def to(self, device: torch.device | str) -> TokenTrie:
        """Return this trie on ``device`` (itself when it is there already)."""
        rows = self._rows.to(device)
        if rows is self._rows:
            return self
        moved = object.__new__(TokenTrie)
        moved._rows = rows
        moved._level_tokens = tuple(tokens.to(device) for tokens in self._level_tokens)
        moved._columns = tuple(columns.to(device) for columns in self._columns)
        moved._starts = tuple(starts.to(device) for starts in self._starts)
        moved._max_token = self._max_token
        return moved

    def children(self, depth: int, nodes: Tensor) -> Children:
        """Return the children of ``nodes``.

        Args:
            depth: Depth of ``nodes``, 0 (the root, node 0) to ``n_levels - 1``.
            nodes: [...] int64 node numbers of that depth.

        Returns:
            The children, [..., C] with C the largest number of children among ``nodes``.

        Raises:
            ValueError: if nodes at ``depth`` have no children.
        """
        if not 0 <= depth < self.n_levels:
            raise ValueError(f"depth must be 0 to {self.n_levels - 1}, got {depth}")
        starts = self._starts[depth]
        first = starts[nodes].unsqueeze(-1)
        count = starts[nodes + 1].unsqueeze(-1) - first
        offsets = torch.arange(int(count.max()), device=nodes.device)
        valid = offsets < count
        child = torch.where(valid, first + offsets, 0)
        return Children(nodes=child, columns=self._columns[depth][child], valid=valid)

    def find(self, prefixes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nodes to which prefixes of paths lead, and whether such prefixes exist at all.

        Args:
            prefixes: [..., depth] int64 vocabulary ids, depth from 0 (the root) to ``n_levels``.

        Returns:
            Nodes of that depth, int64 [...] (an arbitrary node where there is no such prefix), and bool [...].
        """
        nodes = prefixes.new_zeros(prefixes.shape[:-1])
        there = torch.ones_like(nodes, dtype=torch.bool)
        for depth, tokens in enumerate(prefixes.unbind(dim=-1)):
            level, keys = self._level_tokens[depth], self._keys[depth]
            columns = torch.searchsorted(level, tokens.contiguous()).clamp_(max=len(level) - 1)
            wanted = nodes * len(level) + columns
            nodes = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            there &= (level[columns] == tokens) & (keys[nodes] == wanted)
        return nodes, there

    def rows(self, leaves: Tensor) -> Tensor:
        """Return the catalogue rows that these leaves (nodes of depth ``n_levels``) stand for."""
        return self._rows[leaves]

    def leaves(self, rows: Tensor) -> Tensor:
        """Return the leaves of catalogue rows; ``n_items``, past the last leaf, for -1 and rows of other items."""
        nowhere = len(self._leaf_of_row) - 1
        return self._leaf_of_row[rows.masked_fill((rows < 0) | (rows > nowhere), nowhere)]

    def first_leaves(self, depth: int) -> Tensor:
        """Return the first leaf below each node of a depth, 0 to ``n_levels``, followed by the number of leaves.

        The leaves below node i are those from entry i up to, but not including, entry i + 1.
        """
        return self._first_leaves[depth]

    def parents(self, depth: int) -> Tensor:
        """Return the parent of every node of a depth, 1 to ``n_levels``, int64 [number of nodes]."""
        return self._parents[depth - 1]

    @cached_property
    def paths(self) -> Tensor:
        """The paths of all leaves in their order, int64 [n_items, L] vocabulary ids."""
        nodes, tokens = torch.arange(self.n_items, device=self.device), []
        for depth in range(self.n_levels, 0, -1):
            tokens.append(self._level_tokens[depth - 1][self._columns[depth - 1][nodes]])
            nodes = self.parents(depth)[nodes]
        return torch.stack(tokens[::-1], dim=1)

    @cached_property
    def _parents(self) -> list[Tensor]:
        return [
            torch.arange(len(starts) - 1, device=self.device).repeat_interleave(starts.diff())
            for starts in self._starts
        ]

    @cached_property
    def _leaf_of_row(self) -> Tensor:
        of_row = self._rows.new_full((int(self._rows.max()) + 2,), self.n_items)
        return of_row.scatter_(0, self._rows, torch.arange(self.n_items, device=self.device))

    @cached_property
    def _keys(self) -> list[Tensor]:
        """Per depth from 1, (parent, column) of every node as one number; ascending, like the nodes."""
        parts = zip(self._parents, self._columns, self._level_tokens, strict=True)
        return [parents * len(tokens) + columns for parents, columns, tokens in parts]

    @cached_property
    def _first_leaves(self) -> list[Tensor]:
        firsts = [torch.arange(self.n_items + 1, device=self.device)]
        for starts in reversed(self._starts):
            firsts.append(firsts[-1][starts])
        return firsts[::-1]

    def __repr__(self) -> str:
        return f"TokenTrie(n_items={self.n_items}, level_sizes={self.level_sizes})"


def _check_paths(paths: Tensor) -> None:
    found = paths.dtype if isinstance(paths, Tensor) else type(paths).__name__
    if found != torch.int64:
        raise ValueError(f"paths must be an int64 tensor, got {found}")
    if paths.dim() != 2 or paths.numel() == 0:
        raise ValueError(f"paths must be a non-empty [n_items, L] tensor, got shape {tuple(paths.shape)}")
    if int(paths.min()) < 0:
        raise ValueError(f"paths must be vocabulary ids of 0 and above, got {int(paths.min())}")


def _lexicographic_order(paths: Tensor) -> Tensor:
    """Return the row numbers [n] that sort ``paths`` [n, L]: stable sorts from the last column to the first."""
    order = torch.argsort(paths[:, -1], stable=True)
    for level in range(paths.shape[1] - 2, -1, -1):
        order = order[torch.argsort(paths[order, level], stable=True)]
    return order


def _first_rows(paths: Tensor) -> list[Tensor]:
    """Return, for depth 1 to L, the sorted rows at which a new prefix of that length begins."""
    is_first = torch.zeros(len(paths), dtype=torch.bool, device=paths.device)
    is_first[0] = True
    first_rows = []
    for level in range(paths.shape[1]):
        is_first[1:] |= paths[1:, level] != paths[:-1, level]
        first_rows.append(is_first.nonzero().squeeze(1))
    return first_rows


def _child_starts(first_rows: list[Tensor], n_items: int) -> list[Tensor]:
    """Return, for depth 0 to L - 1, the number of each node's first child, followed by the number of all children."""
    device = first_rows[0].device
    end = torch.tensor([n_items], device=device)
    parents = [torch.zeros(1, dtype=torch.int64, device=device), *first_rows[:-1]]
    # A child that begins at the same sorted row as its parent is the parent's first one. The row past the last closes
    # the last family.
    return [
        torch.searchsorted(child, torch.cat([parent, end])) for parent, child in zip(parents, first_rows, strict=True)
    ]


def _describe_duplicate(paths: Tensor, order: Tensor) -> str:
    """Name one pair of equal rows; ``paths`` are sorted, so equal ones are neighbours."""
    equal = (paths[1:] == paths[:-1]).all(dim=1).nonzero().squeeze(1)
    at = int(equal[0])
    return (
        f"every item needs a path of its own, but {equal.numel()} of {len(paths)} rows repeat another: "
        f"rows {int(order[at])} and {int(order[at + 1])} are both {paths[at].tolist()}"
    )
