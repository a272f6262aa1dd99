"""InstructRec (Zhang et al. 2023, arXiv 2305.07001): recommendation as following instructions in words.

As published (Sec. 3): an instruction combines what is known of the user's preference (the titles of the history, or
tastes put into words), the user's intention where there is one, and what is to be done; a language model is tuned on
many such instructions. Of the paper's forms of a task this is matching: the response is the title of the item. An item
is ranked by the likelihood of its title as the response.

What differs:

- A causal language model from scratch, or any from the hub (``base_model``); the paper tunes Flan-T5-XL, an
  encoder-decoder. With ``tuning: lora`` adapters are trained; the paper trains all weights.
- Pointwise, pairwise and reranking forms, specific intentions (categories) and the turned-around task of the paper are
  left out; the wordings are our own.
- Preferences and intentions come from the same source as LC-Rec's (``user_text``; GPT-3.5 in the paper), and from
  training interactions only. Evaluation asks with the titles of the history alone: anything else that a user might say
  then would have to be made from the very item to be found.
- The score is the summed log-likelihood of title and end token, the probability of exactly this answer. Longer titles
  have less of it, as less predictable ones do; ``length_exponent: 1`` takes the mean per token instead. Items with
  equal titles have equal scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.decoding.continuations import log_likelihood
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import TITLEREC
from recbole_lcrec.instruction.text_dataset import RankingSettings
from recbole_lcrec.model.candidates import CandidateRanker
from recbole_lcrec.model.instruction_tuned import check_author
from recbole_lcrec.usertext import UserTextSettings


@dataclass(frozen=True)
class ScoreSettings(StageSettings):
    """Options of the scores; each is explained in properties/model/InstructRec.yaml."""

    length_exponent: float


class InstructRec(CandidateRanker):
    """InstructRec on any causal language model; see the module for what is as published.

    Args:
        config: The experiment's configuration.
        dataset: The training part of an InstructRecDataset.
    """

    settings = (RankingSettings, UserTextSettings, ScoreSettings, *CandidateRanker.settings)

    @classmethod
    def check_models(cls, config: Any) -> None:
        """See the base class."""
        check_author(config)
        super().check_models(config)

    def prepare_prompts(self, config: Any) -> None:
        """See the base class."""
        self._template = TITLEREC[0]
        self._read = log_likelihood(settings_from(ScoreSettings, config).length_exponent)
        self._reserve = max(len(self._title(row)) for row in range(len(self.catalogue.text.items)))

    def _title(self, row: int) -> np.ndarray:
        """Return the response that names an item, with the end token."""
        return self.catalogue.builder.response(self._template, Context(np.zeros(0, np.int64), row))

    def score(self, histories: Sequence[np.ndarray], candidates: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Return the log-likelihood of each history's candidates' titles; see the base class."""
        builder = self.catalogue.builder
        prompts = [builder.prompt(self._template, Context(history), self._reserve) for history in histories]
        # the prompt's last token predicts the title's first: it begins the continuations
        titles = [
            [np.append(prompt[-1:], self._title(row)) for row in rows.tolist()]
            for prompt, rows in zip(prompts, candidates, strict=True)
        ]
        return self._continuations.score([prompt[:-1] for prompt in prompts], titles, self._read)
