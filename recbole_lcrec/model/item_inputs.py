"""One input vector per item: what ``history_input: item`` feeds the language model in place of a path's tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import additive_mask
from recbole_lcrec.instruction.prompts import ITEM_IDS


class ItemInputs(nn.Module):
    """The LM's input embeddings, extended by one vector per catalogue item: the sum of its codes' embeddings.

    Token ids from ``ITEM_IDS`` on stand for items. They are inputs only: what is generated is still a path, token by
    token. A departure from the paper, whose histories are the index tokens themselves: attention then works on items,
    not on codes, and a history of 20 items is 20 positions long.

    Args:
        tokens: The LM's own input embeddings.
        paths: Vocabulary ids of each catalogue item's path, int64 [n_items, L].
    """

    paths: Tensor

    def __init__(self, tokens: nn.Module, paths: Tensor) -> None:
        super().__init__()
        self.tokens = tokens
        self.use_paths(paths)

    @property
    def weight(self) -> Tensor:
        """The table of the vocabulary's embeddings [V, D], which the head may share."""
        weight: Any = self.tokens.weight
        return weight

    def use_paths(self, paths: Tensor) -> None:
        """Stand for the items of another catalogue: paths int64 [n_items, L]."""
        device = next(self.tokens.parameters()).device
        self.register_buffer("paths", paths.to(device), persistent=False)  # they belong to the index, not the weights

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings [..., D] of token ids [...], int64, some of which stand for items."""
        is_item = input_ids >= ITEM_IDS
        embedded: Tensor = self.tokens(input_ids.masked_fill(is_item, 0))
        items = self.tokens(self.paths[input_ids[is_item] - ITEM_IDS]).sum(dim=-2)
        return embedded.masked_scatter(is_item.unsqueeze(-1), items.to(embedded.dtype))


def feed_items(lm: Any, paths: Tensor) -> ItemInputs:
    """Let a language model take items as inputs; returns the embeddings that it now has.

    Args:
        lm: A causal language model of transformers.
        paths: Vocabulary ids of each catalogue item's path, int64 [n_items, L].
    """
    inputs = ItemInputs(lm.get_input_embeddings(), paths)
    lm.set_input_embeddings(inputs)
    return inputs


def positions_and_mask(aside: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what makes a causal LM pass over tokens that stand aside.

    Args:
        aside: bool [B, T]; a run of neighbouring tokens that are marked is seen by the rest of that run only.
        dtype: Of the mask.

    Returns:
        Positions int64 [B, T], which count what a token sees before itself, and the additive mask [B, 1, T, T]: 0 on
        what it sees, the lowest value elsewhere.
    """
    starts = aside.clone()
    starts[:, 1:] &= ~aside[:, :-1]
    run = starts.cumsum(dim=1) * aside  # 0 off the runs
    seen = (run.unsqueeze(1) == 0) | (run.unsqueeze(1) == run.unsqueeze(2))
    seen = seen.tril()
    return seen.sum(dim=-1) - 1, additive_mask(seen, dtype).unsqueeze(1)
