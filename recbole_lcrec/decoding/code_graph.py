"""Graph-constrained decoding of unordered codes (RPG, arXiv 2506.05781): good items are found near good items.

Items are nodes, joined to those whose codes have the most similar embeddings. A search begins at random items, and
repeatedly looks at the neighbours of the best that it has found. Neighbours have similar codes, so scores, which are
sums over codes, change little along an edge; the number of items scored does not depend on the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CELLS = 2**22
"""Similarities computed at once, 16 MB: bounds memory, not the result."""


@dataclass(frozen=True)
class CodeGraph:
    """Items and their neighbours.

    Attributes:
        neighbours: int64 [n, E], for each item those with the most similar codes.
        seed: Seed for drawing the items at which a search begins.
    """

    neighbours: Tensor
    seed: int

    def starts(self, number: int) -> Tensor:
        """Return ``number`` distinct items, or all if there are fewer, int64 [K]."""
        order = torch.randperm(len(self.neighbours), generator=torch.Generator().manual_seed(self.seed))
        return order[:number].to(self.neighbours.device)


def similar_items(books: Sequence[Tensor], codes: Tensor, number: int) -> Tensor:
    """Return the items whose codes are the most similar to each item's, int64 [n, number], or all if there are fewer.

    The similarity of two items is the sum over levels of the inner products of their codes' embeddings.

    Args:
        books: Embeddings of each level's codes, [K_l, D], of length 1.
        codes: int64 [n, L].
        number: Neighbours per item, not counting the item itself.
    """
    tables = [book @ book.T for book in books]
    number = min(number, len(codes) - 1)
    step, found = max(1, CELLS // len(codes)), []
    for start in range(0, len(codes), step):
        mine = codes[start : start + step]
        similar = torch.zeros(len(mine), len(codes), device=codes.device)
        for level, table in enumerate(tables):
            similar += table[mine[:, level]][:, codes[:, level]]
        own = torch.arange(start, start + len(mine), device=codes.device)
        similar.scatter_(1, own.unsqueeze(1), -torch.inf)
        found.append(similar.topk(number, dim=1).indices)
    return torch.cat(found)


def graph_search(
    graph: CodeGraph, score: Callable[[Tensor], Tensor], closed: Tensor, beams: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Return the best items that a search over the graph finds: (items, scores), both [B, K], best first.

    Args:
        graph: The items.
        score: From items int64 [B, C], each user's own, to their scores [B, C].
        closed: bool [B, n], items that a user must not get. The search passes through them, but never returns them.
        beams: Items kept after every step, and at the end.
        steps: How often the neighbours of the kept items are looked at.

    Returns:
        Items with -1, and scores with -inf, in places for which no allowed item was found.
    """
    users = len(closed)
    items = graph.starts(beams).expand(users, -1)
    kept, scores = _best(items, score(items), beams)
    allowed, of_allowed = _open(kept, scores, closed)
    for _ in range(steps):
        visited = torch.cat([kept, graph.neighbours[kept].flatten(1)], dim=1)
        visited, found = _distinct(visited, score(visited))
        kept, scores = _best(visited, found, beams)
        more, of_more = _open(visited, found, closed)
        allowed, of_allowed = _distinct(torch.cat([allowed, more], dim=1), torch.cat([of_allowed, of_more], dim=1))
        allowed, of_allowed = _best(allowed, of_allowed, beams)
    return allowed.masked_fill(of_allowed == -torch.inf, -1), of_allowed


def _best(items: Tensor, scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the best of each row."""
    scores, places = scores.topk(min(number, scores.shape[1]), dim=1)
    return items.gather(1, places), scores


def _distinct(items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return items sorted by number, with -inf for all but the best-scored occurrence of each."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    items, again = items.gather(1, order).sort(dim=1, stable=True)
    scores = scores.gather(1, again)
    same = items[:, 1:] == items[:, :-1]
    return items, torch.cat([scores[:, :1], scores[:, 1:].masked_fill(same, -torch.inf)], dim=1)


def _open(items: Tensor, scores: Tensor, closed: Tensor) -> tuple[Tensor, Tensor]:
    """Return items with -inf for those that are closed."""
    return items, scores.masked_fill(closed.gather(1, items), -torch.inf)
