"""What all generative recommenders share: prompts in, paths out, and RecBole's prediction interface around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_lcrec.decoding import TokenTrie
from recbole_lcrec.instruction.dataset import Catalogue


class GenerativeRecommender(SequentialRecommender):
    """Base class of models that recommend by generating an item's path.

    A subclass implements ``generate`` and ``score`` on prompts; RecBole's ``full_sort_predict`` and ``predict`` and
    the catalogue-wide ``recommend_rows`` are made of these two here.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a GenerativeDataset.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.num_beams = int(config["num_beams"])
        self.use_catalogue(dataset.catalogue)

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Recommend from this catalogue: the one of the data set, or that with new items behind it."""
        self.catalogue = catalogue
        # evaluation ranks RecBole's items, as every other model does; recommending reaches the whole catalogue
        rows = catalogue.row_of_id[1:]
        self._item_rows = torch.from_numpy(rows)
        self._item_trie = TokenTrie(torch.from_numpy(catalogue.paths[rows]))
        whole = len(rows) == len(catalogue.paths)
        self._catalogue_trie = self._item_trie if whole else TokenTrie(torch.from_numpy(catalogue.paths))

    def generate(
        self, histories: Sequence[np.ndarray], trie: TokenTrie, num_beams: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best ``num_beams`` items of ``trie`` per history: (trie rows [B, K], scores [B, K])."""
        raise TypeError(f"{type(self).__name__} does not implement generate")

    def score(self, histories: Sequence[np.ndarray], paths: torch.Tensor) -> torch.Tensor:
        """Return the log-likelihood [B, C] of candidate paths [B, C, L] (vocabulary ids) after each history."""
        raise TypeError(f"{type(self).__name__} does not implement score")

    def loss_weight(self, interaction: Interaction) -> float:
        """Return how much a batch counts when gradients of several batches are accumulated."""
        return float(len(interaction))

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Score all items for each history: generated items by their beam, all others equally and below.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).

        Returns:
            float32 [B, n_items].
        """
        rows, beams = self.generate(self._histories(interaction), self._item_trie, self.num_beams)
        lowest = beams.min(dim=1, keepdim=True).values.float() - 1.0
        scores = lowest.repeat(1, self.n_items)
        # trie rows follow RecBole's item ids, which start at 1
        return scores.scatter_(1, rows + 1, beams.float())

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the exact log-likelihood of each row's item after its history, float32 [B].

        Rows that share a history (candidates of one user) share one prompt.
        """
        histories = self._histories(interaction)
        items = interaction[self.ITEM_ID].tolist()
        groups: dict[bytes, list[int]] = {}
        for row, history in enumerate(histories):
            groups.setdefault(history.tobytes(), []).append(row)
        result = torch.empty(len(items), dtype=torch.float32, device=self.device)
        for rows in groups.values():
            ids = self.catalogue.row_of_id[[items[row] for row in rows]]
            paths = torch.from_numpy(self.catalogue.paths[ids])[None]
            result[torch.tensor(rows, device=self.device)] = self.score([histories[rows[0]]], paths)[0].float()
        return result

    def recommend_rows(
        self, histories: Sequence[np.ndarray], k: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows of the whole catalogue for each history of catalogue rows: (rows, scores), [B, k].

        Items that no interaction names can be recommended too: their paths are as good as any other.

        Args:
            histories: Catalogue rows, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer where there are not so many.
            among: Catalogue rows to choose from, int64 [n]; None for all.
        """
        limit = int(self.max_seq_length)
        cut = [history[-limit:] for history in histories]
        if among is not None:
            trie, row_of_trie = TokenTrie(torch.from_numpy(self.catalogue.paths[among])), torch.from_numpy(among)
        elif self._catalogue_trie is self._item_trie:
            trie, row_of_trie = self._item_trie, self._item_rows
        else:
            trie, row_of_trie = self._catalogue_trie, torch.arange(len(self.catalogue.paths))
        rows, scores = self.generate(cut, trie, max(k, self.num_beams))
        order = row_of_trie.to(rows.device)[rows]
        return order[:, :k].cpu().numpy(), scores[:, :k].float().cpu().numpy()

    def _histories(self, interaction: Interaction) -> list[np.ndarray]:
        """Return each row's history in catalogue rows, oldest first."""
        ids = interaction[self.ITEM_SEQ].cpu().numpy()
        lengths = interaction[self.ITEM_SEQ_LEN].tolist()
        return [self.catalogue.row_of_id[row[:length]] for row, length in zip(ids, lengths, strict=True)]
