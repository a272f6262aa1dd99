"""Exact popularity: every user is recommended the items with the most training interactions.

RecBole's Pop counts an item once per training batch, and the random negatives in the batch as well; its scores depend
on train_batch_size and seed. Here the interactions themselves are counted.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.general_recommender import Pop


class ExactPop(Pop):
    """RecBole's Pop with true counts; nothing is trained.

    Args:
        config: The experiment's configuration.
        dataset: The dataset of the training phase.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items)
        self.item_cnt = counts[:, None].to(self.device)
        self.max_cnt = self.item_cnt.max(dim=0).values

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: there is nothing to train."""
        return torch.nn.Parameter(torch.zeros(1)).to(self.device)
