"""LIGER (Yang et al. 2024, arXiv 2411.18814), generative and dense retrieval in one model, as a preset of LCRec.

As published: an item's input is its semantic id together with the embedding of its text; the model learns the next
item's semantic id and a vector that retrieves the item; candidates of either kind are scored in both ways, and items
without interactions can be retrieved by their text. Semantic ids are TIGER's: three codes of a residual quantizer and
one that tells colliding items apart.

What differs:

- The network is the decoder-only one of LCRec, over one vector per item (``history_input: item``, ``item_features``);
  the paper's is a T5, over the tokens of the ids, each with the item's text added.
- The dense loss is a softmax over the whole catalogue of inner products with the item's own input vector
  (``item_loss_weight``); the paper's is of cosine similarities with the text's vector.
- An item's score is the weighted mean of both log-probabilities (``item_score_weight``), which also guides the beam
  search (`recbole_lcrec.decoding.item_scores`). The paper generates candidates, adds the cold items, and ranks them by
  the dense score alone.
- Embeddings, index and training are this package's.

All of these are options of LCRec, set in properties/model/LIGER.yaml; each can be overridden.
"""

from __future__ import annotations

from recbole_lcrec.model.lcrec import LCRec


class LIGER(LCRec):
    """LCRec under the options of LIGER; see the module."""
