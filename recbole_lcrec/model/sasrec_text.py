"""SASRec (Kang and McAuley 2018, arXiv 1808.09781) that reads what LCRec reads: the texts' embeddings as well as the
ids.

An item's vector is the embedding of its id plus a linear projection of its text's embedding, in the history and among
the candidates alike; all else is RecBole's SASRec with its options. The embeddings are those that an item index is
made from (option ``text_encoder``, one cache), so a comparison with LCRec, TIGER or RPG shows what these add beyond
having read the texts, and one with SASRec what the texts alone are worth.

What differs from published models of this kind: UniSRec (arXiv 2206.05941) and the like replace the ids or pretrain on
other data; here nothing is pretrained, and the ids stay. New items have no id, so they cannot be recommended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.embedding import EmbeddingSettings
from recbole_lcrec.embedding.items import save_embeddings
from recbole_lcrec.model.quick_sasrec import QuickSASRec


def standardised(vectors: Tensor) -> Tensor:
    """Return vectors [n, d] centred and scaled to a mean squared length of 1, row 0 (padding) left at 0."""
    centred = vectors[1:].double() - vectors[1:].double().mean(dim=0)
    size = centred.square().sum(dim=1).mean().sqrt()
    scaled = centred / size if float(size) > 1e-8 else torch.zeros_like(centred)
    return functional.pad(scaled, (0, 0, 1, 0)).to(vectors)


class ItemVectors(nn.Module):
    """Stands for a table of embeddings: a row is the id's embedding and the projection of the item's features.

    Args:
        ids: The ids' embeddings [n_items, D]; row 0 is padding.
        features: float32 [n_items, F], row 0 is 0.
    """

    features: Tensor

    def __init__(self, ids: nn.Embedding, features: Tensor) -> None:
        super().__init__()
        self.ids = ids
        self.projection = nn.Linear(features.shape[1], ids.weight.shape[1], bias=False)
        with torch.no_grad():  # for features of mean length 1, projections begin as large as the ids' embeddings
            self.projection.weight.normal_(std=float(ids.weight[1:].std()))
        self.register_buffer("features", standardised(features), persistent=False)  # saved beside the weights

    @property
    def weight(self) -> Tensor:
        """The vectors of all items, [n_items, D]."""
        weight: Tensor = self.ids.weight + self.projection(self.features)
        return weight

    def forward(self, items: Tensor) -> Tensor:
        """Return the vectors [..., D] of item ids int64 [...]."""
        vectors: Tensor = self.ids(items) + self.projection(self.features[items])
        return vectors


class SASRecText(QuickSASRec):
    """SASRec whose item vectors know the items' texts; see the module.

    Args:
        config: The experiment's configuration.
        dataset: The training part of an EmbeddedDataset.
    """

    settings: ClassVar[tuple[Any, ...]] = (EmbeddingSettings,)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self._vectors = dataset.item_vectors
        ids: Any = self.item_embedding
        self.item_embedding: Any = ItemVectors(ids, torch.from_numpy(self._vectors))

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights: the items' embeddings."""
        save_embeddings(folder, self._vectors[1:])
