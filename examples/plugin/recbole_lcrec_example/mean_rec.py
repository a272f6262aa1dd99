"""A plain RecBole model: nothing in it knows recbole_lcrec."""

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import nn
from torch.nn import functional


class MeanRec(SequentialRecommender):
    """Scores items by the decayed mean of the history's item vectors."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.decay = config["mean_decay"]
        self.items = nn.Embedding(self.n_items, config["mean_dim"], padding_idx=0)
        nn.init.normal_(self.items.weight, std=0.02)

    def forward(self, history, length):
        """Return the users' vectors, [batch, mean_dim], of histories [batch, n] that are padded with 0."""
        places = torch.arange(history.shape[1], device=history.device)
        age = (length[:, None] - 1 - places).clamp(min=0)
        weight = self.decay**age * (history > 0)
        return (weight[..., None] * self.items(history)).sum(1) / weight.sum(1, keepdim=True)

    def calculate_loss(self, interaction):
        """Return the cross-entropy of the next item over the catalogue."""
        return functional.cross_entropy(self.full_sort_predict(interaction), interaction[self.POS_ITEM_ID])

    def predict(self, interaction):
        """Return the scores of one item per user, [batch]."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None])[:, 0]

    def full_sort_predict(self, interaction):
        """Return the scores of all items, [batch, n_items]."""
        user = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return user @ self.items.weight.T
