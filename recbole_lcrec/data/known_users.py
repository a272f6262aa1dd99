"""The users of a data set after their last known interaction: what recommending to them starts from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.seen import SeenItems, seen_by_now
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.utils.errors import UserError, shortened


class KnownUsers:
    """Users, their whole histories and RecBole's form of them.

    Users with a single interaction have no history in the data of sequential models, whose samples are a history and
    the item after it.

    Args:
        dataset: The whole data set, its split built.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of all users, in the order of RecBole's ids from 1."""
        return tuple(str(token) for token in self._dataset.field2id_token[self._dataset.uid_field][1:])

    def id_of(self, token: str) -> int:
        """Return RecBole's id of a user token; 0 for an unknown user."""
        known = self._dataset.field2token_id[self._dataset.uid_field]
        return int(known.get(token, 0))

    def require(self, what: str, tokens: Sequence[str]) -> None:
        """Make sure that users are in the data set.

        Raises:
            UserError: Beginning with ``what``, if some are not.
        """
        missing = [token for token in tokens if not self.id_of(token)]
        if missing:
            raise UserError(f"{what}: {len(missing)} user(s) are not in the data set, e.g. {shortened(missing[0])}.")

    @cached_property
    def seen(self) -> SeenItems:
        """The distinct items of each user."""
        return seen_by_now(self._dataset)

    def has_history(self, user: int) -> bool:
        """Return whether anything is known about a user, by RecBole's id."""
        return len(self.sequence(user) if self.is_sequential else self.seen.of_user(user)) > 0

    @property
    def is_sequential(self) -> bool:
        """Whether each row of the data is a history and the item after it."""
        return isinstance(self._dataset, SequentialDataset)

    @cached_property
    def _sequences(self) -> dict[int, np.ndarray]:
        return training_sequences(self._dataset)

    def sequence(self, user: int) -> np.ndarray:
        """Return a user's items by RecBole's ids in time order, int64 [n]; only for data of sequential models."""
        return self._sequences.get(user, np.zeros(0, np.int64))

    @cached_property
    def _last_rows(self) -> np.ndarray:
        """The last row of each user by RecBole's id, int64 [n_users]; -1 for users without rows."""
        users = self._dataset.inter_feat[self._dataset.uid_field].numpy()
        last = np.full(self._dataset.user_num, -1, np.int64)
        np.maximum.at(last, users, np.arange(len(users)))
        return last

    def rows(self, users: Sequence[int]) -> Interaction:
        """Return a model's input after the users' last interaction.

        For sequential data, these are the users' last rows, moved on by one: their targets are at the end of the
        histories. For other data, it is the users with their features.

        Args:
            users: RecBole's ids of B users with a history.
        """
        dataset = self._dataset
        if not self.is_sequential:
            return dataset.join(Interaction({dataset.uid_field: torch.tensor(list(users))}))
        rows = dataset.inter_feat[torch.from_numpy(self._last_rows[list(users)])]
        run, lengths = RunOptions(dataset.config), rows[dataset.item_list_length_field]
        suffix, width = run.list_suffix, run.max_history
        moved: dict[str, torch.Tensor] = {dataset.item_list_length_field: (lengths + 1).clamp(max=width)}
        for name in rows.columns:
            if name + suffix in rows.columns:
                moved[name + suffix] = _appended(rows[name + suffix], rows[name], lengths)
        rows.update(Interaction(moved))
        return rows


def _appended(lists: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return lists [B, W, ...] with a value [B, ...] after the items of each; full ones lose the oldest."""
    width = lists.shape[1]
    full = (lengths >= width).view(-1, *[1] * (lists.dim() - 1))
    result = torch.where(full, lists.roll(-1, dims=1), lists)
    result[torch.arange(len(lists)), lengths.clamp(max=width - 1)] = values.to(result.dtype)
    return result
