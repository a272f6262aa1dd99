"""P5-CID (Hua et al. 2023, "How to Index Item IDs", arXiv 2305.06569): P5 with collaborative indexing.

As published: items are paths of clusters (recursive spectral clustering of item co-occurrence, ``quantizer: cid``)
whose codes are new tokens; a T5 reads a prompt in words that names the user, ``user_17``, and the user's last 20 items
in order, and writes the next item's path; every prefix of a training sequence is a sample, and its wording is drawn
from several; 20 beams constrained to existing items. The user's name is plain text, which the tokenizer cuts into
pieces. Trained on the sequential task alone; P5's direct wordings (the user without a history) can be added
(``p5_tasks: [sequential, direct]``).

What differs:

- The wordings are our own. An item is its codes; the published prompts write ``item_`` before them.
- Users are named by their raw token, not by a number assigned when the data were prepared, so that a user has the same
  name in every version of the data. An unknown user is named ``somebody``.
- No whole-word embeddings (an option of the published code).
- Without ``base_model`` the T5 is small and from scratch, with a byte-level BPE trained on the wordings and the users'
  names. With it (T5-small in the paper), its weights and tokenizer, and the paper's recipe are used.
- Departures of the index itself are listed in ``recbole_lcrec.quantizer.cid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.instruction.dataset import InstructionCatalogue
from recbole_lcrec.instruction.p5 import P5_TEMPLATES, UNKNOWN_USER, P5Settings, user_name
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.tokenizer import TokenizerSettings, load_tokenizer
from recbole_lcrec.model.encoder_decoder import EncoderDecoderRecommender, T5Settings, new_t5
from recbole_lcrec.model.generative import HistoryFrame
from recbole_lcrec.model.lm import extend_vocabulary
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.hub import adapter_base, load_pretrained, load_weights, merging_advice

T5_KINDS = ("t5", "mt5")


class P5CID(EncoderDecoderRecommender):
    """P5-CID on any item index; see the module for what is as published.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a P5Dataset.
    """

    settings = (*EncoderDecoderRecommender.settings, P5Settings)
    catalogue: InstructionCatalogue
    wordings = {"seqrec": len(P5_TEMPLATES["sequential"])}

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self._templates = settings_from(P5Settings, config).templates
        self.tokenizer = self.catalogue.tokenizer
        self._names = [UNKNOWN_USER, *map(user_name, self.user_names[1:])]
        self._check_room()

    def _check_room(self) -> None:
        """Build every wording with the longest name and one item, so that too small a max_length fails at once."""
        longest = Context(np.zeros(1, np.int64), user=max(self._names, key=len))
        for template in self._templates:
            self.catalogue.builder.prompt(template, longest)

    @classmethod
    def check_models(cls, config: Any) -> None:
        """Load ``base_model`` once, as far as that is possible without an index.

        Raises:
            UserError: If it cannot be loaded or is not a T5.
        """
        base_model = settings_from(TokenizerSettings, config).base_model
        if base_model:
            check_base_model(base_model)
            load_tokenizer(base_model)
            _pretrained(base_model, 0, settings_from(T5Settings, config).t5_dropout)

    @property
    def n_wordings(self) -> int:
        """Number of wordings that training draws from."""
        return len(self._templates)

    def new_lm(self, config: Any) -> Any:
        """Return the T5 to train: ``base_model`` with its vocabulary extended, or one from scratch."""
        tokenizer, settings = self.catalogue.tokenizer, settings_from(T5Settings, config)
        base_model = settings_from(TokenizerSettings, config).base_model
        if not base_model:
            return new_t5(settings, len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
        return _pretrained(base_model, len(tokenizer), settings.t5_dropout)

    def inputs(
        self, rows: torch.Tensor, lengths: torch.Tensor, users: torch.Tensor, wordings: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prompts in the given wordings, each with an end token, right-padded: (ids, mask) [B, T]."""
        builder = self.catalogue.builder
        prompts = []
        for row, length, user, wording in zip(
            rows.cpu().numpy(), lengths.tolist(), users.tolist(), wordings, strict=True
        ):
            context = Context(row[:length], user=self._names[user])
            prompts.append(builder.prompt(self._templates[wording], context))
        ids = np.full((len(prompts), max(map(len, prompts)) + 1), builder.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
            ids[row, len(prompt)] = self.catalogue.tokenizer.eos_token_id
            mask[row, : len(prompt) + 1] = 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def history_frame(self) -> HistoryFrame:
        """See the base class."""
        builder = self.catalogue.builder
        before, between, behind = (
            ids.tolist() for ids in builder.around_history(self._templates[self.prompts[0]], UNKNOWN_USER)
        )
        end = int(self.tokenizer.eos_token_id)
        return HistoryFrame(before, between, [*behind, end], builder.settings.max_length + 1)

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights: the index, the tokenizer and the architecture."""
        super().save_assets(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")


def check_base_model(base_model: str) -> None:
    """Refuse a ``base_model`` that is not a T5, by its configuration alone.

    Raises:
        UserError: If there is none of that name, or it is another kind of model.
    """
    from transformers import AutoConfig

    option = f"base_model={base_model}"
    base = adapter_base(base_model, option)
    if base is not None:
        raise UserError(f"{option}: it is an adapter of {base}, not a whole model. {merging_advice(base)}")
    kind = load_pretrained(AutoConfig, base_model, option).model_type
    if kind not in T5_KINDS:
        raise UserError(f"{option}: expected a T5 ({' or '.join(T5_KINDS)}), found a model of type {kind!r}.")


def _pretrained(base_model: str, vocab_size: int, dropout: float) -> Any:
    """Return a T5 checkpoint in float32 with room for ``vocab_size`` tokens.

    Raises:
        UserError: If there is none of that name, or it is not a T5.
    """
    from transformers import AutoModelForSeq2SeqLM

    option = f"base_model={base_model}"
    check_base_model(base_model)
    lm = load_weights(AutoModelForSeq2SeqLM, base_model, option, dtype=torch.float32, dropout_rate=dropout)
    extend_vocabulary(lm, vocab_size, option)
    return lm
