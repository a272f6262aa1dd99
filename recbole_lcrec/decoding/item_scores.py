"""Log-probabilities of whole items in addition to those of their paths.

A path is scored code by code; a model may also score an item as a whole, by the inner product of its vector with the
state after the prompt (dense retrieval; LIGER, arXiv 2411.18814, trains both, too). The score of an item is then a
weighted mean of the two log-probabilities. Beam search needs such a score for every prefix of a path: the probability
of a node of the trie is the sum of those of the items below it, so that along a path the differences add up to the
item's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_lcrec.decoding.trie import TokenTrie

NUMBERS_PER_ITEM = 6
"""Numbers per user and item that a search with item scores holds at a time: logits, their log-softmax, its columns for
the items, and the sums over each level of the trie with their intermediate results."""


@dataclass(frozen=True)
class ItemScores:
    """A model's scores of whole items.

    Attributes:
        trie: The items' paths.
        log_probs: From the states after the prompts, [B, D], to log-probabilities of the trie's leaves, [B, n_items]
            in float32 or float64; they may leave some probability to items that are not in the trie.
        weight: Their share of an item's score, 0 to 1; the rest is the log-probability of its path.
    """

    trie: TokenTrie
    log_probs: Callable[[Tensor], Tensor]
    weight: float

    def of_paths(self, states: Tensor, paths: Tensor) -> Tensor:
        """Return the log-probabilities [B, C] of the items of paths [B, C, L], after states [B, D].

        Raises:
            ValueError: If a path is not in the trie.
        """
        leaves, there = self.trie.find(paths)
        if not bool(there.all()):
            raise ValueError("whole items have a score only if their paths are in the trie")
        return self.log_probs(states).gather(1, leaves)


class NodeScores:
    """The log-probabilities of all nodes of the trie for a batch of users.

    Args:
        scores: The model's scores of whole items.
        states: [B, D] after the prompts.
        excluded: [B, E] catalogue rows that each user must not get, -1 for padding; they count for no node. None if
            everything may be recommended.
    """

    def __init__(self, scores: ItemScores, states: Tensor, excluded: Tensor | None = None) -> None:
        trie, log_probs = scores.trie, scores.log_probs(states)
        if excluded is not None:
            log_probs = torch.cat([log_probs, log_probs[:, :1]], dim=1)  # a last column for the padding
            log_probs = log_probs.scatter(1, trie.leaves(excluded), -torch.inf)[:, :-1]
        levels = [log_probs]
        for depth in range(trie.n_levels, 1, -1):
            levels.append(_logsumexp_by(levels[-1], trie.parents(depth), trie.level_sizes[depth - 2]))
        # The root counts as certain: the probability of items that are excluded or outside the trie stays lost, so
        # that steps add up to the item's log-probability.
        levels.append(torch.zeros_like(log_probs[:, :1]))
        self._levels = levels[::-1]
        self.weight = scores.weight

    def steps(self, depth: int, nodes: Tensor, children: Tensor) -> Tensor:
        """Return the log-probabilities of children, given that the item is one of those below their parent; at depth 0
        given nothing.

        Args:
            depth: Depth of ``nodes``.
            nodes: [B, K].
            children: [B, K, C] nodes of the next depth.

        Returns:
            [B, K, C]; NaN below a node whose items are all excluded.
        """
        below = self._levels[depth + 1].gather(1, children.flatten(1)).view(children.shape)
        return below - self._levels[depth].gather(1, nodes).unsqueeze(-1)


def _logsumexp_by(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the log of the summed exponentials [B, n_groups] of the columns [B, N] of each group [N]."""
    index = groups.expand(len(values), -1)
    shape = (len(values), n_groups)
    top = values.new_full(shape, -torch.inf).scatter_reduce(1, index, values, "amax")
    top = top.clamp(min=torch.finfo(values.dtype).min)  # for groups of -inf only: differences must not be NaN
    return values.new_zeros(shape).scatter_add(1, index, (values - top.gather(1, index)).exp()).log() + top
