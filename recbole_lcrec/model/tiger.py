"""TIGER (Rajput et al. 2023, arXiv 2305.05065): a T5 from scratch that reads and writes semantic ids, without words.

As published (Sec. 3.2 and 4.1): the encoder reads a user token and the semantic ids of the user's last 20 items,
oldest first; the decoder writes the semantic id of the next item. Four layers each, six heads of 64, ReLU feed-forward
layers of 1024, inputs of 128, dropout 0.1. The vocabulary is the codes of all levels and 2,000 user tokens, which
users share by hashing. Semantic ids are three codes of a residual quantizer and a fourth one that tells colliding
items apart (``index_mapping: digit``).

What differs:

- Item text is embedded by ``text_encoder`` (the paper: Sentence-T5), and the quantizer is ours; any other quantizer,
  mapping or ready index works as well.
- Decoding is constrained to paths of existing items. The paper decodes freely and drops ids that no item has.
- Training uses AdamW with warm-up and cosine decay, for as long as a CPU allows (the paper: 200,000 steps of 256
  samples, learning rate 0.01 and then inverse-square-root decay, on accelerators).
- A user who is not in the data set (``recommend``) has no user token: the encoder reads the history alone.
  Training never sees that, so expect slightly worse results than for a known user.
- The encoder's input ends with an end token, as T5's does; the paper does not say. The decoder's target is the path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.index.catalogue import END_ID, FIRST_CODE_ID, PAD_ID, Catalogue
from recbole_lcrec.model.encoder_decoder import EncoderDecoderRecommender, T5Settings, new_t5
from recbole_lcrec.model.generative import HistoryFrame
from recbole_lcrec.utils.errors import Mistakes


def user_bucket(user: str, buckets: int) -> int:
    """Return which of the user tokens a user shares, 0 to ``buckets - 1``: a hash of the raw user token.

    SHA-256, so that every process, machine and data set with this user agrees.
    """
    digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % buckets


@dataclass(frozen=True)
class TIGERSettings(StageSettings):
    """Options of TIGER's inputs; each is explained in properties/model/TIGER.yaml."""

    user_buckets: int


class TIGER(EncoderDecoderRecommender):
    """TIGER on the item index of this package; see the module for what is as published.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a CatalogueDataset.
    """

    settings = (*EncoderDecoderRecommender.settings, TIGERSettings)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        first, buckets = (
            FIRST_CODE_ID + len(self.catalogue.code_ids),
            settings_from(TIGERSettings, config).user_buckets,
        )
        tokens = [PAD_ID, *(first + user_bucket(user, buckets) for user in self.user_names[1:])]
        self._user_tokens = torch.tensor(tokens, device=self.device)

    @classmethod
    def check_options(cls, config: Any) -> None:
        """Refuse wrong options of the model before the long stages."""
        mistakes = Mistakes()
        with mistakes.caught():
            super().check_options(config)
        base_model = config["base_model"]
        mistakes.expect(
            not base_model,
            f"base_model={base_model}: TIGER has a vocabulary of its own and is trained from scratch. Leave "
            "base_model out (P5CID takes a T5 checkpoint).",
        )
        mistakes.finish()

    def new_lm(self, config: Any) -> Any:
        """Return the T5 to train, from scratch."""
        size = FIRST_CODE_ID + len(self.catalogue.code_ids) + settings_from(TIGERSettings, config).user_buckets
        return new_t5(settings_from(T5Settings, config), size, PAD_ID, END_ID)

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Recommend from this catalogue: the data set's own, or that with new items appended."""
        super().use_catalogue(catalogue)
        # row -1, after the end of a history, is padding
        self._path_or_pad = torch.cat([self._paths, torch.full_like(self._paths[:1], PAD_ID)])

    def inputs(
        self, rows: torch.Tensor, lengths: torch.Tensor, users: torch.Tensor, wordings: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return user token, the paths of the history and the end token, right-padded: (ids, mask) [B, T].

        The user token's place is masked for an unknown user: T5 knows only distances, so it might as well be absent.
        """
        paths = self._path_or_pad[rows[:, : int(lengths.max())]].flatten(1)
        ids = torch.cat([self._user_tokens[users].unsqueeze(1), paths, torch.full_like(paths[:, :1], PAD_ID)], dim=1)
        ids.scatter_(1, (1 + lengths * self._paths.shape[1]).unsqueeze(1), END_ID)
        return ids, (ids != PAD_ID).long()

    def history_frame(self) -> HistoryFrame:
        """See the base class; an unknown user has no user token."""
        return HistoryFrame([], [], [END_ID])
