"""The best items of a trained model, for histories of item tokens or for the users of the data set.

There are three kinds of models. Generative ones and rankers of candidates take histories of the catalogue's items;
RecBole's sequential models take histories of the items that have interactions; its other models know users only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from recbole.utils import ModelType

from recbole_lcrec.config import registry
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.known_users import KnownUsers
from recbole_lcrec.index.catalogue import rows_of_items
from recbole_lcrec.model.interface import RecommendsRows
from recbole_lcrec.training.evaluation import EvaluatingTrainer
from recbole_lcrec.utils.errors import UserError

Lists = tuple[list[list[str]], list[list[float]]]
"""Item tokens and scores, best first, one list per history or user; empty places are left out."""

_DENSE = 2**26
"""Most scores of users for all items that are computed at once (256 MB in float32)."""
_USERS = 256
"""Users whose items RecBole's models score at once."""


class Asking:
    """Asks an experiment's model for items.

    Args:
        experiment: The experiment, trained.
        k: Items per history.
        among: Item tokens to choose from; None for all.

    Raises:
        UserError: For an item that the model does not know.
    """

    def __init__(self, experiment: Any, k: int, among: Sequence[str] | None = None) -> None:
        self._experiment, self._k = experiment, k
        self._run, self._model = RunOptions(experiment.config), experiment.model
        self._ranks_rows = isinstance(self._model, RecommendsRows)
        self._among: Any = None
        if among is not None:
            chosen = list(dict.fromkeys(among))
            self._among = rows_of_items(self._model.catalogue, chosen) if self._ranks_rows else self._item_ids(chosen)

    @property
    def takes_histories(self) -> bool:
        """Whether the model can use a history; others score users of the data set."""
        return self._ranks_rows or self._run.model_type == ModelType.SEQUENTIAL

    def require_histories(self) -> None:
        """Make sure that the model can use histories.

        Raises:
            UserError: If it cannot.
        """
        if not self.takes_histories:
            raise UserError(
                f"recommend: {self._run.model} scores users of the data set and has no use for histories. "
                "Name users of the data set instead, or use a sequential or generative model."
            )

    @cached_property
    def step(self) -> int:
        """Number of histories or users that are given to the model together."""
        batch = max(self._run.eval_batch_size, 1)
        if self._ranks_rows:
            return batch if registry.is_generative(self._run.model) else _USERS
        n_items = self._experiment.dataset.item_num
        if type(self._model).full_sort_predict is AbstractRecommender.full_sort_predict:  # a row per user and item
            return max(batch // n_items, 1)
        return max(min(_USERS, _DENSE // n_items), 1)

    def known(self, item: str) -> bool:
        """Return whether the model knows an item."""
        if self._ranks_rows:
            return item in self._model.catalogue.text.rows
        dataset = self._experiment.dataset
        return int(dataset.field2token_id[dataset.iid_field].get(item, 0)) > 0

    def of_histories(self, histories: Sequence[Sequence[str]]) -> Lists:
        """Return the best items after each history of item tokens, none of them empty.

        Raises:
            UserError: For an unknown item, a model that cannot use histories, or one that needs ``among``.
        """
        if self._ranks_rows:
            rows = [rows_of_items(self._model.catalogue, history) for history in histories]
            return self._of_rows(rows)
        ids = [self._item_ids(history) for history in histories]
        return self._of_interaction(self._interaction(ids), ids)

    def of_users(self, users: Sequence[int], known: KnownUsers) -> Lists:
        """Return the best items of users after their last interaction.

        Args:
            users: RecBole's ids of users with a history.
            known: The users of the data set.
        """
        if self._ranks_rows:
            row_of_id = self._model.catalogue.row_of_id
            return self._of_rows([row_of_id[known.sequence(user)] for user in users], users)
        seen = [known.seen.of_user(user) for user in users] if self._run.exclude_history else None
        return self._of_interaction(known.rows(users), seen)

    def scores_of(self, histories: Sequence[Sequence[str]], item: str) -> list[float]:
        """Return the exact score of one item after each history, none of them empty.

        Raises:
            UserError: As ``of_histories`` does.
        """
        if not self._ranks_rows:
            ids = [self._item_ids(history) for history in histories]
            with self.evaluating():
                scores = self._dense(self._interaction(ids))
            return [float(score) for score in scores[:, self._item_ids([item])[0]]]
        rows = [rows_of_items(self._model.catalogue, history) for history in histories]
        with self.evaluating():
            return self._model.score_row(rows, int(rows_of_items(self._model.catalogue, [item])[0]))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the model as an evaluation does: its precision, gathered weights, no dropout, no gradients."""
        trainer = self._experiment.trainer
        self._model.eval()
        with torch.no_grad(), ExitStack() as contexts:
            if isinstance(trainer, EvaluatingTrainer):  # trees have neither processes nor precisions
                contexts.enter_context(trainer.team.evaluation())
                contexts.enter_context(trainer.autocast())
            yield

    def _of_rows(self, histories: Sequence[np.ndarray], users: Sequence[int] | None = None) -> Lists:
        with self.evaluating():
            rows, values = self._model.recommend_rows(histories, self._k, self._among, users)
        return _lists(self._model.catalogue.text.items, rows, values)

    def _of_interaction(self, interaction: Interaction, seen: Sequence[Any] | None) -> Lists:
        with self.evaluating():
            scores = self._dense(interaction)
        allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
        allowed[slice(1, None) if self._among is None else self._among] = True
        scores[:, ~allowed] = -torch.inf
        if self._run.exclude_history and seen is not None:
            for row, items in zip(scores, seen, strict=True):
                row[torch.as_tensor(items, device=row.device)] = -torch.inf
        best, ids = scores.topk(min(self._k, int(allowed.sum())), dim=1)
        dataset = self._experiment.dataset
        return _lists(dataset.field2id_token[dataset.iid_field], ids.cpu().numpy(), best.cpu().numpy())

    def _dense(self, interaction: Interaction) -> torch.Tensor:
        """Return the scores of all items as RecBole ranks them, float32 [B, n_items]."""
        trainer, dataset = self._experiment.trainer, self._experiment.dataset
        if not isinstance(trainer, Trainer):
            raise UserError(f"recommend: {self._run.model} judges rows of the data, not items. Use another model.")
        trainer.tot_item_num = dataset.item_num
        if trainer.item_tensor is None:
            trainer.item_tensor = dataset.get_item_feature().to(self._run.device)
        try:
            _, scores, *_ = Trainer._full_sort_batch_eval(trainer, (interaction, None, None, None))
        except KeyError as error:
            raise UserError(
                f"recommend: {self._run.model} reads column {error} of the interactions, which histories of "
                "items do not have. Recommend to users of the data set."
            ) from error
        return scores.float()

    def _item_ids(self, items: Sequence[str]) -> list[int]:
        unknown = [item for item in items if not self.known(item)]
        if unknown:
            raise UserError(f"recommend: {len(unknown)} item(s) are not in the data set, e.g. {unknown[0]!r}.")
        dataset = self._experiment.dataset
        return [int(dataset.field2token_id[dataset.iid_field][item]) for item in items]

    def _interaction(self, histories: Sequence[Sequence[int]]) -> Interaction:
        """Return histories of RecBole's item ids in the form that its sequential models take."""
        self.require_histories()
        dataset, width = self._experiment.dataset, self._run.max_history
        ids = torch.zeros(len(histories), width, dtype=torch.int64)
        lengths = torch.zeros(len(histories), dtype=torch.int64)
        for row, history in enumerate(histories):
            kept = history[-width:]
            ids[row, : len(kept)] = torch.tensor(kept)
            lengths[row] = len(kept)
        fields = {
            dataset.uid_field: torch.zeros(len(histories), dtype=torch.int64),
            dataset.iid_field + self._run.list_suffix: ids,
            self._run.length_field: lengths,
        }
        return Interaction(fields)


def _lists(tokens: Sequence[str] | np.ndarray, numbers: np.ndarray, scores: np.ndarray) -> Lists:
    """Return tokens and scores of the places [B, k] that have an item, that is, a score above -inf."""
    found = [line > -np.inf for line in scores]
    kept = [line[is_one].tolist() for line, is_one in zip(numbers, found, strict=True)]
    values = [line[is_one].tolist() for line, is_one in zip(scores, found, strict=True)]
    return [[str(tokens[number]) for number in line] for line in kept], values
