"""Which items each user had before a phase: what ``exclude_history`` keeps out of the recommendations.

Models see different parts of a history: general models learned from all training interactions, sequential ones see the
last MAX_ITEM_LIST_LENGTH items. What is excluded must not depend on that, or the numbers could not be compared. So it
is taken from the split, which all models share: every interaction of the user in earlier phases. For validation, these
are the training interactions; for the test, those of validation too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_lcrec.config.run_options import RunOptions


class SeenItems:
    """The distinct items of each user, by RecBole's ids.

    Args:
        users: User ids of the interactions, int64 [n].
        items: Their item ids, int64 [n]; 0, the padding, is left out.
        n_items: One more than the largest item id.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, n_items: int) -> None:
        self._n_items = n_items
        self._pairs = np.unique((users * n_items + items)[items > 0])  # sorted: a user's pairs are adjacent

    def of_user(self, user: int) -> np.ndarray:
        """Return the items of a user, ascending, int64 [n]; empty for users without interactions."""
        ends = np.searchsorted(self._pairs, np.array([user, user + 1]) * self._n_items)
        return self._pairs[ends[0] : ends[1]] - user * self._n_items

    def of_users(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items of several users as pairs: (places in ``users``, item ids), both int64 [n].

        Args:
            users: User ids, int64 [B].
        """
        lists = [self.of_user(user) for user in users.tolist()]
        rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        items = np.concatenate([np.zeros(0, np.int64), *lists])
        return torch.from_numpy(rows).to(users.device), torch.from_numpy(items).to(users.device)

    def counts(self, users: Tensor) -> Tensor:
        """Return how many items each user has, int64 [B]."""
        edges = users.cpu().numpy()[:, None] + np.array([0, 1])
        ends = np.searchsorted(self._pairs, edges * self._n_items)
        return torch.from_numpy(ends[:, 1] - ends[:, 0]).to(users.device)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Return whether each user has had each item, bool [n], for user ids and item ids [n]."""
        found = np.isin(users.cpu().numpy() * self._n_items + items.cpu().numpy(), self._pairs)
        return torch.from_numpy(found).to(items.device)


def seen_before(phase: str, parts: Sequence[Any]) -> SeenItems:
    """Return the items that users had before the "valid" or "test" phase.

    For a ready split (``benchmark_filename``), these are the items that its rows of the earlier phases name, as
    targets or in their histories, and those in the history of the user's first row of the phase itself; its histories
    are cut to MAX_ITEM_LIST_LENGTH for every model.

    Args:
        phase: "valid" or "test".
        parts: The datasets of training, validation and test as built by RecBole, before users are sampled from them.
    """
    number = {"valid": 1, "test": 2}[phase]
    pairs = [pair for part in parts[:number] for pair in (_targets(part), _histories(part))]
    pairs.append(_histories(parts[number], first_only=True))
    users, items = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    return SeenItems(users, items, parts[0].item_num)


class WithSeen:
    """Mixin of RecBole's evaluation loaders: they carry the items that their users must not be given.

    Args:
        seen: Items that users had before the phase (``exclude_history``); None excludes nothing.
    """

    def __init__(self, *args: Any, seen: SeenItems | None = None, **kwargs: Any) -> None:
        self.seen = seen
        super().__init__(*args, **kwargs)


def with_seen(loader_class: type) -> Any:
    """Return one of RecBole's evaluation loader classes with the additional argument ``seen``."""
    return type(loader_class.__name__, (WithSeen, loader_class), {})


def seen_by_now(data: Any) -> SeenItems:
    """Return the items that users have had in all phases.

    Args:
        data: The whole data set, its split built.
    """
    users, items = (np.concatenate(columns) for columns in zip(_targets(data), _histories(data), strict=True))
    return SeenItems(users, items, data.item_num)


def excluded_targets(loader: Any) -> tuple[int, int]:
    """Return how many targets of an evaluation are in their user's history, and how many there are.

    Args:
        loader: RecBole's loader of a phase with ``seen``, the phase's ``SeenItems``.
    """
    users, items = (torch.from_numpy(column) for column in _targets(loader._dataset))
    return int(loader.seen.contains(users, items).sum()), len(users)


def _targets(part: Any) -> tuple[np.ndarray, np.ndarray]:
    return part.inter_feat[part.uid_field].numpy(), part.inter_feat[part.iid_field].numpy()


def _histories(part: Any, *, first_only: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and items of the histories in the rows of a part; nothing if rows have no histories.

    Without a ready split, a user's first row is enough: later histories only add the targets before them.
    """
    field = part.iid_field + RunOptions(part.config).list_suffix
    if field not in part.inter_feat or not len(part.inter_feat):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    users, lists = part.inter_feat[part.uid_field].numpy(), part.inter_feat[field].numpy()
    if first_only or RunOptions(part.config).benchmark_filename is None:
        users, rows = np.unique(users, return_index=True)
        lists = lists[rows]
    return np.repeat(users, lists.shape[1]), lists.reshape(-1)
