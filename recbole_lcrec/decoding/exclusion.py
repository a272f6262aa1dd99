"""Items that single users must not be given, kept out of the beams while they grow.

Filtering finished beams would leave hardly any to a user whose history is what the model likes best. So a beam may not
enter a node of the trie below which every item is excluded for its user; all other nodes lead to an allowed item, and
the beams that are kept are exactly those of a search over the trie of the user's allowed items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_lcrec.decoding.trie import TokenTrie


class ExcludedItems:
    """Tells, for a batch of beams, which nodes are closed to their users.

    The leaves below a node are consecutive numbers, so two binary searches in a user's sorted excluded leaves count
    those below it. The cost grows with the number of nodes asked for, not with the catalogue.

    Args:
        trie: The paths of all items.
        rows: [B, E] int64 catalogue rows that each user must not get; -1 is padding, a row may be repeated, and rows
            that the trie does not have count below no node.

    Raises:
        ValueError: if the rows are not int64 [B, E].
    """

    def __init__(self, trie: TokenTrie, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.dtype != torch.int64:
            raise ValueError(f"excluded rows must be int64 [B, E], got {rows.dtype} {tuple(rows.shape)}")
        self._trie = trie
        leaves = trie.leaves(rows).sort(dim=1).values
        repeated = torch.zeros_like(leaves, dtype=torch.bool)
        repeated[:, 1:] = leaves[:, 1:] == leaves[:, :-1]
        self._leaves = leaves.masked_fill(repeated, trie.n_items).sort(dim=1).values

    def closed(self, depth: int, nodes: Tensor) -> Tensor:
        """Return whether all items below each node are excluded for its user, bool [B, K, C].

        Args:
            depth: Depth of the nodes, 1 to ``n_levels``.
            nodes: [B, K, C] node numbers of that depth.
        """
        first = self._trie.first_leaves(depth)
        ends = torch.stack([first[nodes], first[nodes + 1]], dim=1)
        below = torch.searchsorted(self._leaves, ends.flatten(1)).view(ends.shape)
        return below[:, 1] - below[:, 0] == ends[:, 1] - ends[:, 0]


def without_dead_beams(rows: Tensor, scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return finished beams [B, width]: row -1 and score -inf in the places for which no allowed item was left.

    Args:
        rows: [B, K] catalogue rows; any where the score is -inf.
        scores: [B, K] log-probabilities, -inf last.
        width: K or more.
    """
    rows = rows.masked_fill(scores == -torch.inf, -1)
    missing = width - rows.shape[1]
    return (
        torch.nn.functional.pad(rows, (0, missing), value=-1),
        torch.nn.functional.pad(scores, (0, missing), value=-torch.inf),
    )
