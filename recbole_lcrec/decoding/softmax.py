"""What the softmax behind a code's probability runs over, in training as in decoding.

The paper's softmax runs over the whole vocabulary: the model has to learn which codes may follow a prefix, and
probability that it gives to others is lost. Narrower ones spare it that. Whatever the softmax, the probability of a
path is the product over its codes, and only the trie's children compete in beam search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from recbole_lcrec.decoding.readout import Readout
from recbole_lcrec.decoding.trie import TokenTrie

Normalization = Literal["vocabulary", "level", "children"]

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)
"""From the widest to the narrowest. A model trained with a wide one can be read with a narrower one, which only leaves
out what is impossible; the other way round, the model has never learned how likely the others are."""


class Softmax:
    """Over the whole vocabulary: the paper's, and that of transformers' generate."""

    def log_probs(self, readout: Readout, states: Tensor, tokens: Tensor, prefixes: Tensor) -> Tensor:
        """Return the log-probabilities of some of a level's codes.

        Args:
            readout: Turns states into log-probabilities.
            states: [..., D] after each prefix.
            tokens: [C] vocabulary ids of codes at the level after the prefixes.
            prefixes: int64 [..., depth] vocabulary ids of the codes before, none at the first level.

        Returns:
            [..., C] in float32, or float64 if the states are.
        """
        return readout.log_probs(states, tokens)

    def losses(self, readout: Readout, states: Tensor, targets: Tensor, prefixes: Tensor) -> Tensor:
        """Return the negative log-probabilities [N] of codes at one level.

        Args:
            readout: Turns states into log-probabilities.
            states: [N, D] before each code.
            targets: [N] vocabulary ids of the codes.
            prefixes: int64 [N, depth] vocabulary ids of the codes before, none at the first level.
        """
        tokens, columns = targets.unique(return_inverse=True)
        return -self.log_probs(readout, states, tokens, prefixes).gather(-1, columns.unsqueeze(-1)).squeeze(-1)

    def check(self, paths: Tensor) -> None:
        """Make sure that paths [..., L] have a probability.

        Raises:
            ValueError: If one has none.
        """


class LevelSoftmax(Softmax):
    """Over all codes of a level.

    Args:
        levels: Vocabulary ids of each level's codes.
    """

    def __init__(self, levels: Sequence[Tensor]) -> None:
        self._levels = levels

    def log_probs(self, readout: Readout, states: Tensor, tokens: Tensor, prefixes: Tensor) -> Tensor:
        """See the base class."""
        return readout.log_probs(states, tokens, self._levels[prefixes.shape[-1]])


class ChildSoftmax(Softmax):
    """Over the codes with which some item's path continues: the children of the prefix in the trie.

    The probabilities of all items add up to 1.

    Args:
        trie: The paths of all existing items, which may be more than those that are searched.
    """

    def __init__(self, trie: TokenTrie) -> None:
        self._trie = trie

    def log_probs(self, readout: Readout, states: Tensor, tokens: Tensor, prefixes: Tensor) -> Tensor:
        """See the base class; codes with which no path continues get some log-probability, which may exceed 0."""
        depth = prefixes.shape[-1]
        level = self._trie.level_tokens(depth)
        log_probs = readout.log_probs(states, level, level)
        children = self._trie.children(depth, self._trie.find(prefixes)[0])
        of_children = log_probs.gather(-1, children.columns).masked_fill(~children.valid, -torch.inf)
        wanted = log_probs if tokens is level else log_probs[..., torch.searchsorted(level, tokens)]
        return wanted - of_children.logsumexp(dim=-1, keepdim=True)

    def check(self, paths: Tensor) -> None:
        """See the base class: all paths must be in the trie."""
        if not bool(self._trie.find(paths)[1].all()):
            raise ValueError("a softmax over the trie's children gives a probability to paths of the trie only")
