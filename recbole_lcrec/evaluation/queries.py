"""What a generative model is asked at evaluation: which task, in which wordings, and the test users' queries.

Queries of the test phase are made from the very items that are to be found, so nothing that builds training data may
use this module; it is called when an experiment is built, for the evaluation loaders only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.decoding.softmax import NORMALIZATIONS
from recbole_lcrec.instruction.templates import LCREC_TEMPLATES, Template
from recbole_lcrec.usertext import UserTextSettings
from recbole_lcrec.utils.errors import Mistakes, UserError

logger = logging.getLogger(__name__)

EVAL_TEMPLATES: dict[str, tuple[Template, ...]] = {
    task: tuple(t for t in LCREC_TEMPLATES[task] if t.response == "{index}" and "preferences" not in t.fields)
    for task in ("seqrec", "itemsearch", "fusionseqrec", "nextitem")
}
"""Task -> wordings that are answered with an item; evaluation uses the first by default."""

SEARCH = "itemsearch"

Queries = dict[tuple[int, bytes], str]
"""(RecBole's user id, history in catalogue rows as bytes) -> what the user asks for."""


ONE_WORDING: Mapping[str, int] = MappingProxyType({"seqrec": 1})
"""The wordings of a model that is asked without words."""


@dataclass(frozen=True)
class TopItems:
    """The items that a model recommends, if it does not score all of them.

    Attributes:
        items: RecBole's item ids, best first, int64 [B, K]; 0, the padding item, in empty places.
        scores: Their scores, float32 [B, K], descending.
    """

    items: torch.Tensor
    scores: torch.Tensor

    def widened(self, width: int) -> TopItems:
        """Return this with at least ``width`` places per user, for catalogues that are smaller."""
        missing = max(width - self.items.shape[1], 0)
        return TopItems(
            functional.pad(self.items, (0, missing)), functional.pad(self.scores, (0, missing), value=-torch.inf)
        )

    def dense(self, n_items: int) -> torch.Tensor:
        """Return scores of all items, float32 [B, n_items]: the others all get the same score, below these.

        Args:
            n_items: RecBole's number of items, including the padding item.
        """
        found = self.scores.where(self.scores > -torch.inf, 0.0)
        lowest = found.min(dim=1, keepdim=True).values - 1.0
        return lowest.repeat(1, n_items).scatter_(1, self.items, self.scores)


@dataclass(frozen=True)
class EvaluationSettings(StageSettings):
    """Options of the evaluation; each is explained in properties/generative.yaml.

    Attributes:
        eval_task: Task that is evaluated.
        eval_prompts: Wordings of the task.
        score_normalization: What the softmax behind an item's score runs over; None for the same as in training.
        loss_normalization: What the softmax behind the loss on codes runs over.
        wordings: How many wordings the model has for each task that it can be asked.

    Raises:
        UserError: For an unknown task, wordings that the task does not have, or scores by a softmax that the model
            has not learned.
    """

    eval_task: str
    eval_prompts: str | list[int]
    score_normalization: str | None
    loss_normalization: str
    wordings: Mapping[str, int]

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        if NORMALIZATIONS.index(self.normalization) < NORMALIZATIONS.index(self.loss_normalization):
            mistakes.add(
                f"score_normalization={self.score_normalization}: with loss_normalization={self.loss_normalization} "
                "the model never learns how likely other tokens are. Leave score_normalization out."
            )
        if self.wordings == ONE_WORDING and (self.eval_task, self.eval_prompts) != ("seqrec", [0]):
            mistakes.add(
                f"eval_task={self.eval_task}, eval_prompts={self.eval_prompts}: the model is asked for the next item "
                "after a history, without words. Leave these options out."
            )
        elif self.eval_task not in self.wordings:
            mistakes.add(f"eval_task: expected one of {', '.join(self.wordings)}, found {self.eval_task!r}.")
        elif isinstance(self.eval_prompts, list):
            count, numbers = self.wordings[self.eval_task], self.eval_prompts
            mistakes.expect(
                bool(numbers) and max(numbers) < count and len(set(numbers)) == len(numbers),
                f"eval_prompts: expected all, ensemble, or a list of wordings of {self.eval_task}, each from 0 to "
                f"{count - 1} and given once; found {numbers!r}.",
            )

    @property
    def normalization(self) -> str:
        """What the softmax behind an item's score runs over."""
        return self.score_normalization or self.loss_normalization

    @property
    def numbers(self) -> tuple[int, ...]:
        """The wordings in use."""
        if isinstance(self.eval_prompts, list):
            return tuple(self.eval_prompts)
        return tuple(range(self.wordings[self.eval_task]))

    @property
    def rounds(self) -> tuple[tuple[int, ...], ...]:
        """The wordings of each evaluation: an ensemble's are used together, others one after another."""
        return (self.numbers,) if self.eval_prompts == "ensemble" else tuple((number,) for number in self.numbers)


def load_queries(config: Any, data: Any, parts: Any) -> Queries:
    """Return the queries of the users of the evaluation parts: the intentions behind their own target items.

    Args:
        config: The experiment's configuration, with ``eval_task: itemsearch``.
        data: The whole dataset, its catalogue prepared.
        parts: Datasets of validation and test.

    Raises:
        UserError: If a user has several targets, or no user has a query.
    """
    from recbole_lcrec.usertext.held_out import load_test_intentions

    queries: Queries = {}
    wanted = 0
    for part in parts:
        rows = part.inter_feat
        users, items = rows[part.uid_field].numpy(), rows[part.iid_field].numpy()
        if len(np.unique(users)) < len(users):
            raise UserError("eval_task=itemsearch needs one target per user: use a leave-one-out split.")
        tokens = [str(token) for token in part.field2id_token[part.uid_field][users]]
        targets = dict(zip(tokens, data.catalogue.row_of_id[items].tolist(), strict=True))
        found = load_test_intentions(
            settings_from(UserTextSettings, config),
            targets=targets,
            item_text=data.catalogue.text,
            **data.user_text_options(),
        )
        histories = rows[part.iid_field + RunOptions(config).list_suffix].numpy()
        lengths = rows[part.item_list_length_field].tolist()
        wanted += len(users)
        for user, token, history, length in zip(users.tolist(), tokens, histories, lengths, strict=True):
            if token in found:
                queries[user, data.catalogue.row_of_id[history[:length]].tobytes()] = found[token][0]
    if not queries:
        raise UserError(
            "eval_task=itemsearch: no user has a query. It is made of item text, reviews or <name>.user.json: bring "
            "one of them, or evaluate seqrec."
        )
    logger.info("Search, not recommendation: %d of %d evaluated users have a query.", len(queries), wanted)
    return queries
