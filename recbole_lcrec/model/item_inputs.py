"""One input vector per item: what ``history_input: item`` feeds the language model instead of a path's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.config import StageSettings
from recbole_lcrec.decoding.architecture import additive_mask
from recbole_lcrec.decoding.readout import score_dtype
from recbole_lcrec.decoding.trie import TokenTrie
from recbole_lcrec.instruction.prompts import are_whole_items, rows_of_whole_items
from recbole_lcrec.utils.errors import Mistakes


@dataclass(frozen=True)
class ItemVectorSettings(StageSettings):
    """Options of items as single vectors; each is explained in properties/model/LCRec.yaml.

    Raises:
        UserError: For options that need ``history_input: item``, without it, and for others that contradict.
    """

    history_input: str
    item_prefixes: bool
    item_features: bool
    item_loss_weight: float
    item_score_weight: float

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        if not self.are_read:
            for option in ("item_prefixes", "item_features", "item_loss_weight"):
                mistakes.expect(
                    not vars(self)[option],
                    f"{option} is about the vectors of items. Use it with history_input=item.",
                )
        mistakes.expect(
            not self.item_score_weight or bool(self.item_loss_weight),
            f"item_score_weight={self.item_score_weight}: with item_loss_weight=0 the model never learns to judge "
            "whole items. Set item_loss_weight above 0, or leave item_score_weight out.",
        )

    @property
    def are_read(self) -> bool:
        """Whether histories are read as one vector per item."""
        return self.history_input == "item"


class ItemInputs(nn.Module):
    """The LM's input embeddings, extended by one vector per catalogue item: the sum of its codes' embeddings.

    Some token ids stand for whole items (``whole_items``). They are inputs only: what is generated is still a path,
    token by token. A departure from the paper, whose histories are the index tokens themselves: attention then works
    on items, not on codes, and a history of 20 items is 20 positions long.

    A sum of codes alone hardly tells rare items apart, since each code is shared by many. With ``trained`` the vector
    also has an embedding of each longer prefix of the path, up to the whole of it (as n-grams of semantic ids in
    Singh et al. 2023, arXiv 2306.08121). Items added later have those of the prefixes that they share. With
    ``features`` it has a linear projection of what is known of the item, the embedding that its codes were made from,
    as in LIGER (arXiv 2411.18814): codes keep little of it.

    Args:
        tokens: The LM's own input embeddings.
        paths: Vocabulary ids of each catalogue item's path, int64 [n_items, L].
        trained: Vocabulary ids of the paths whose prefixes have embeddings, int64 [n_trained, L], or None.
        features: Embedding of each catalogue item, float32 [n_items, F]; None without features.
    """

    paths: Tensor
    prefixes: Tensor
    features: Tensor

    def __init__(
        self, tokens: nn.Module, paths: Tensor, trained: Tensor | None = None, features: Tensor | None = None
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self._trained = None if trained is None else TokenTrie(trained)
        if self._trained is not None:
            # row 0 stands for prefixes that have none, and stays 0
            width = self.weight.shape[1]
            self.of_prefixes = nn.Embedding(1 + sum(self._trained.level_sizes[1:]), width, padding_idx=0)
            with torch.no_grad():
                self.of_prefixes.weight[1:].normal_(std=float(self.weight.std()))
        self.of_features = None if features is None else nn.Linear(features.shape[1], self.weight.shape[1], bias=False)
        if self.of_features is not None and features is not None:
            with torch.no_grad():  # what is added has the size of a code's embedding, not of the features
                size = float(features.square().sum(dim=1).mean().sqrt())
                self.of_features.weight.normal_(std=float(self.weight.std()) / max(size, 1e-12))
        self.use_items(paths, features)

    @property
    def weight(self) -> Tensor:
        """The table of the vocabulary's embeddings [V, D], which the head may share."""
        weight: Any = self.tokens.weight
        return weight

    def use_items(self, paths: Tensor, features: Tensor | None = None) -> None:
        """Represent the items of another catalogue: paths int64 [n_items, L], features float32 [n_items, F]."""
        device = next(self.tokens.parameters()).device
        self.register_buffer("paths", paths.to(device), persistent=False)  # they belong to the index, not the weights
        if self._trained is not None:
            self.register_buffer("prefixes", self._prefixes(self._trained, paths).to(device), persistent=False)
        if self.of_features is not None:
            assert features is not None and len(features) == len(paths), "one row of features per item"
            self.register_buffer("features", features.to(self.weight), persistent=False)

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """Return the vectors of catalogue rows int64 [N], [N, D]; of all items for None."""
        of_rows = slice(None) if rows is None else rows
        vectors = _sums(self.tokens, self.paths[of_rows])
        if self._trained is not None:
            vectors = vectors + _sums(self.of_prefixes, self.prefixes[of_rows])
        if self.of_features is not None:
            vectors = vectors + self.of_features(self.features[of_rows])
        return vectors

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings [..., D] of token ids [...], int64, some of which stand for items."""
        is_item = are_whole_items(input_ids)
        embedded: Tensor = self.tokens(input_ids.masked_fill(is_item, 0))
        items = self.vectors(rows_of_whole_items(input_ids[is_item]))
        return embedded.masked_scatter(is_item.unsqueeze(-1), items.to(embedded.dtype))

    @staticmethod
    def _prefixes(trie: TokenTrie, paths: Tensor) -> Tensor:
        """Return the row of ``of_prefixes`` of each prefix of 2 codes or more, int64 [n_items, L - 1]."""
        columns, first = [], 1
        for depth in range(2, trie.n_levels + 1):
            nodes, there = trie.find(paths[:, :depth])
            columns.append(torch.where(there, first + nodes, 0))
            first += trie.level_sizes[depth - 1]
        return torch.stack(columns, dim=1) if columns else paths.new_zeros(len(paths), 0)


def _sums(table: nn.Module, rows: Tensor) -> Tensor:
    """Return the sum [N, D] of each item's embeddings, rows int64 [N, L] of a table."""
    if (
        type(table) is nn.Embedding and rows.shape[1]
    ):  # avoids the embeddings [N, L, D], which are large for a whole catalogue
        return functional.embedding_bag(rows, table.weight, mode="sum", padding_idx=table.padding_idx)
    summed: Tensor = table(rows).sum(dim=-2)  # for tables that do more than look up: Gemma 3 scales
    return summed


def feed_items(lm: Any, paths: Tensor, trained: Tensor | None = None, features: Tensor | None = None) -> ItemInputs:
    """Let a language model take items as inputs; return its new input embeddings.

    Args:
        lm: A causal language model of transformers.
        paths: Vocabulary ids of each catalogue item's path, int64 [n_items, L].
        trained: Those of the paths whose prefixes have embeddings; None without prefixes.
        features: Embedding of each catalogue item, float32 [n_items, F]; None without features.
    """
    inputs = ItemInputs(lm.get_input_embeddings(), paths, trained, features)
    lm.set_input_embeddings(inputs)
    return inputs


def positions_and_mask(aside: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what makes a causal LM pass over tokens that stand aside.

    Args:
        aside: bool [B, T]; a run of adjacent marked tokens is seen by the rest of that run only. Or the number of each
            token's run, int64 [B, T], where runs are adjacent; 0 for tokens that do not stand aside.
        dtype: Of the mask.

    Returns:
        Positions int64 [B, T], which count what a token sees before itself, and the additive mask [B, 1, T, T]: 0 on
        what it sees, the lowest value elsewhere.
    """
    run = aside if aside.dtype == torch.int64 else _numbered(aside)
    seen = (run.unsqueeze(1) == 0) | (run.unsqueeze(1) == run.unsqueeze(2))
    seen = seen.tril()
    return seen.sum(dim=-1) - 1, additive_mask(seen, dtype).unsqueeze(1)


def _numbered(aside: Tensor) -> Tensor:
    """Return the number of each token's run of adjacent marked tokens, int64 [B, T]; 0 if it is not marked."""
    starts = aside.clone()
    starts[:, 1:] &= ~aside[:, :-1]
    return starts.cumsum(dim=1) * aside


def item_products(states: Tensor, vectors: Tensor) -> Tensor:
    """Return the products of states [N, D] with items' vectors [n_rows, D], [N, n_rows] in the dtype of scores."""
    logits = functional.linear(states, vectors.to(states.dtype))
    return logits.to(score_dtype(logits.dtype))


def item_log_probs(states: Tensor, vectors: Tensor) -> Tensor:
    """Return the log-probabilities [N, n_rows] of whole items after states [N, D], by their vectors [n_rows, D]."""
    return item_products(states, vectors).log_softmax(dim=-1)
