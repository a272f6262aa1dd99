"""TALLRec (Bao et al. 2023, arXiv 2305.00447): a language model is asked whether a user will enjoy an item.

As published (Sec. 3): an instruction names what the user liked by title and asks about one more item; the response is
Yes or No; the loss covers the response; a pretrained LLM is tuned with LoRA (``base_model``, ``tuning: lora``); an
item is ranked by the probability of Yes against No at the response's first token.

What differs:

- No ratings are read. In the paper an item is liked if it was rated above a threshold, the prompt also lists what the
  user disliked, and No means a low rating. Here every interaction counts as liked, nothing is listed as disliked,
  and the item of a No is drawn from those that the user has no training interaction with, one for each Yes.
- The task is the next item among sampled ones, as for every model here; the paper reports AUC over rated items.
- Histories of up to 20 items (the paper: 10), all training samples (the paper: 16 to 256), the wording is our own, and
  there is no first round of tuning on general instructions (Alpaca).
- LoRA adapts all linear layers (the paper: queries and values).
- Without ``base_model`` the language model is small, from scratch and fully tuned: it knows about the items only what
  the words of their titles teach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.decoding.continuations import log_odds
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.sources import NO, YES
from recbole_lcrec.instruction.templates import YESNO
from recbole_lcrec.instruction.text_dataset import JudgementSettings
from recbole_lcrec.model.candidates import CandidateRanker
from recbole_lcrec.model.lm import LMSettings
from recbole_lcrec.utils.errors import UserError


class TALLRec(CandidateRanker):
    """TALLRec on any causal language model; see the module for what is as published.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a TALLRecDataset.
    """

    settings = (JudgementSettings, *CandidateRanker.settings)

    def prepare_prompts(self, config: Any) -> None:
        """See the base class."""
        builder = self.catalogue.builder
        self._template = YESNO[0]
        answers = [builder.response(self._template, Context(np.zeros(0, np.int64), answer=a)) for a in (YES, NO)]
        first = [int(ids[0]) for ids in answers]
        if first[0] == first[1]:
            base_model = settings_from(LMSettings, config).base_model
            raise UserError(
                f"base_model={base_model}: its tokenizer writes {YES} and {NO} with the same first token, so they "
                "cannot be told apart there. Choose another model."
            )
        self._read = log_odds(*first)
        tails = [builder.from_candidate(self._template, row) for row in range(len(self.catalogue.text.items))]
        self._longest = int(np.argmax([len(ids) for ids in tails]))

    def score(self, histories: Sequence[np.ndarray], candidates: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Return log p(Yes) - log p(No) of each history's candidates; see the base class."""
        builder = self.catalogue.builder
        prompts = [builder.until_candidate(self._template, Context(h, candidate=self._longest)) for h in histories]
        tails = [[builder.from_candidate(self._template, row) for row in rows.tolist()] for rows in candidates]
        return self._continuations.score(prompts, tails, self._read)
