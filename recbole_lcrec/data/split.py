"""RecBole's datasets with one leave-one-out split for every model.

RecBole splits general models (Pop, BPR, ...) differently from sequential ones for users with two or three
interactions, sorts timestamps after rounding them to float32, and builds histories in a Python loop. The mixins here
keep RecBole's pipeline (loading, filtering, remapping) and replace those three points, so that users, histories and
targets are the same for all models: those of RecBole's sequential leave-one-out. In it a user's interactions
i_1 ... i_n give the samples (i_1 -> i_2), (i_1, i_2 -> i_3), ...; the last is the test sample, the one before it the
validation sample, and a user keeps at least one training sample.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_lcrec.config.registry import base_of
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.presplit import training_pairs
from recbole_lcrec.data.strict_tables import StrictTables


class StableOrder(StrictTables):
    """Mixin of every dataset: interactions in true time order; equal timestamps keep the order of the file.

    RecBole sorts after it has turned timestamps into float32, where Unix times closer than a minute are equal, and
    its duplicate removal sorts unstably. Sorting once, stably and in float64, right before that conversion makes every
    later (stable) sort of RecBole keep the true order.
    """

    def _remove_duplication(self) -> None:
        """Keep the first or last in time of repeated (user, item) pairs; the rows stay in file order."""
        keep = RunOptions(self.config).rm_dup_inter
        if keep is not None:
            ordered = self.inter_feat
            if self.time_field in ordered:
                ordered = ordered.sort_values(by=self.time_field, kind="stable")
            self.inter_feat = ordered.drop_duplicates(subset=[self.uid_field, self.iid_field], keep=keep).sort_index()

    def _change_feat_format(self) -> None:
        """Sort while timestamps are float64 (here they are about to become float32)."""
        if self.in_time_order:
            self.inter_feat = self.inter_feat.sort_values(by=self.time_field, kind="stable", ignore_index=True)
        super()._change_feat_format()


class GeneralSplit(StableOrder):
    """Mixin of datasets for models without histories: the same training, validation and test pairs.

    Training pairs are the interactions that a sequential model sees in training, as part of a history or as a
    target: all but the held-out targets, but nothing of users with a single interaction, who have no sample.
    """

    def build(self) -> list[Dataset]:
        """Build the parts as RecBole does; with a ready split, training gets the pairs in its histories too."""
        parts = super().build()
        if self.benchmark_filename_list is not None:
            parts[0] = parts[0].copy(training_pairs(parts[0]))
        return parts

    def _split_index_by_leave_one_out(self, grouped_index: Any, leave_one_num: int) -> list[list[int]]:
        parts: list[list[int]] = [[] for _ in range(leave_one_num + 1)]
        for group in grouped_index:
            index = list(group)
            if len(index) < 2:
                continue
            # n interactions make n - 1 samples, one of which stays in training: RecBole's sequential rule
            held_out = min(leave_one_num, len(index) - 2)
            cut = len(index) - held_out
            parts[0].extend(index[:cut])
            for i, row in enumerate(index[cut:]):
                parts[leave_one_num + 1 - held_out + i].append(row)
        return parts


class SequentialSplit(StableOrder):
    """Mixin of sequential datasets: RecBole's augmentation, vectorised (the output is the same)."""

    def data_augmentation(self) -> None:
        """Turn every user's interactions i_1 ... i_n into the samples (i_1 .. i_{t-1} -> i_t), t = 2 .. n.

        Histories keep the last MAX_ITEM_LIST_LENGTH items, oldest first, zero-padded at the end.
        """
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        feat = self.inter_feat
        users = feat[self.uid_field].numpy()
        rows = np.arange(len(users))
        is_first = np.r_[True, users[1:] != users[:-1]] if len(users) else np.zeros(0, bool)
        first_row = np.maximum.accumulate(np.where(is_first, rows, 0))
        target = rows[~is_first]
        length = np.minimum(target - first_row[target], self.max_item_list_len)
        samples = feat[torch.from_numpy(target)]
        fields = {self.item_list_length_field: torch.from_numpy(length.astype(np.int64))}
        for field in feat:
            if field != self.uid_field:
                fields[self._list_field(field)] = self._histories(field, target, length)
        samples.update(Interaction(fields))
        self.inter_feat = samples

    def _list_field(self, field: str) -> str:
        """Return RecBole's name for the histories of a column."""
        return str(vars(self)[f"{field}_list_field"])

    def _histories(self, field: str, target: np.ndarray, length: np.ndarray) -> torch.Tensor:
        """Return the values of ``field`` before each target row, [n_samples, max length, ...], zero-padded."""
        value = self.inter_feat[field]
        width = self.field2seqlen[self._list_field(field)]
        width = width if isinstance(width, int) else width[0]
        position = torch.arange(width)
        index = torch.from_numpy(target - length)[:, None] + position
        inside = position < torch.from_numpy(length)[:, None]
        history = value[torch.where(inside, index, 0)]
        inside = inside.view(inside.shape + (1,) * (history.dim() - 2))
        return torch.where(inside, history, torch.zeros((), dtype=value.dtype))


class SequentialSplitDataset(SequentialSplit, SequentialDataset):
    """RecBole's SequentialDataset on the shared split."""


def shared_split_class(config: Any) -> type:
    """Return RecBole's dataset class for ``config['model']`` with the shared split mixed in.

    RecBole's own factory also unpickles any file at ``checkpoint_dir/<dataset>-*.pth``; ours never does.
    """
    run = RunOptions(config)
    module = importlib.import_module("recbole.data.dataset")
    base = getattr(module, base_of(run.model) + "Dataset", None)
    model_type = run.model_type
    if base is None:
        base = {
            ModelType.SEQUENTIAL: SequentialDataset,
            ModelType.KNOWLEDGE: module.KnowledgeBasedDataset,
            ModelType.DECISIONTREE: module.DecisionTreeDataset,
        }.get(model_type, Dataset)
    if not issubclass(base, SequentialDataset):
        mixin: type = GeneralSplit
    elif base.data_augmentation is SequentialDataset.data_augmentation:
        mixin = SequentialSplit
    else:  # DIEN and similar models write more columns than histories
        mixin = StableOrder
    return type(f"SharedSplit{base.__name__}", (mixin, base), {})


def training_sequences(train: Dataset) -> dict[int, np.ndarray]:
    """Return each user's training interactions in time order: the only data that may be learned from.

    A user's samples are (i_1 -> i_2), (i_1, i_2 -> i_3), ...: the first one's history and the targets of all.

    Args:
        train: The training part of a sequential dataset, as built by RecBole.

    Returns:
        RecBole's user id -> RecBole's item ids, int64; users ascending.
    """
    rows = train.inter_feat
    users, targets = rows[train.uid_field].numpy(), rows[train.iid_field].numpy()
    histories = rows[train.iid_field + RunOptions(train.config).list_suffix].numpy()
    lengths = rows[train.item_list_length_field].numpy()
    if not len(users):
        return {}
    order = np.argsort(users, kind="stable")  # rows are in time order; grouped by user unless all were split together
    starts = np.flatnonzero(np.r_[True, np.diff(users[order]) != 0])
    return {
        int(users[part[0]]): np.concatenate([histories[part[0], : lengths[part[0]]], targets[part]])
        for part in np.split(order, starts[1:])
    }


def split_records(train: Dataset, valid: Dataset, test: Dataset) -> Iterator[tuple[str, str, list[str], str]]:
    """Yield (phase, user token, last-20 history in item tokens, target item token) of validation and test.

    Sequential datasets carry the history in each row. For general ones, it is what precedes the target: the user's
    training interactions, and for the test target the validation target too.

    Args:
        train: The dataset of the training phase, as built by RecBole; likewise ``valid`` and ``test``.
    """
    max_length = RunOptions(train.config).max_history
    # rows carry their history in sequential datasets, and in all datasets with a ready split
    sequential = isinstance(train, SequentialDataset) or RunOptions(train.config).benchmark_filename is not None
    seen: dict[int, list[int]] = {}
    if not sequential:
        _append_interactions(seen, train)
    for phase, dataset in (("valid", valid), ("test", test)):
        rows = dataset.inter_feat
        users, items = rows[dataset.uid_field].tolist(), rows[dataset.iid_field].tolist()
        if sequential:
            lists = rows[dataset.iid_field + RunOptions(dataset.config).list_suffix].tolist()
            histories = [[item for item in row if item] for row in lists]  # 0 is padding
        else:
            histories = [list(seen.get(user, ())) for user in users]
            _append_interactions(seen, dataset)
        to_user, to_item = dataset.field2id_token[dataset.uid_field], dataset.field2id_token[dataset.iid_field]
        for user, history, item in zip(users, histories, items, strict=True):
            yield phase, str(to_user[user]), [str(to_item[i]) for i in history[-max_length:]], str(to_item[item])


def _append_interactions(seen: dict[int, list[int]], dataset: Dataset) -> None:
    rows = dataset.inter_feat
    for user, item in zip(rows[dataset.uid_field].tolist(), rows[dataset.iid_field].tolist(), strict=True):
        seen.setdefault(user, []).append(item)


def split_sha256(train: Dataset, valid: Dataset, test: Dataset) -> str:
    """Return the SHA-256 of validation and test in raw tokens: equal for all models that share the split.

    Every (phase, user, last-20 history, target) is one JSON line; the lines are sorted.
    """
    lines = sorted(json.dumps(record, ensure_ascii=False) for record in split_records(train, valid, test))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def items_sha256(dataset: Dataset) -> str:
    """Return the SHA-256 of the item tokens in the order of their ids: if equal, embedding tables have equal rows."""
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


def sample_users(dataset: Dataset, n_users: int | None, seed: int) -> Dataset:
    """Return ``dataset`` limited to the rows of ``n_users`` seeded users (all rows if it has no more users).

    Args:
        dataset: A built validation dataset.
        n_users: Option ``valid_users``; None keeps everyone.
        seed: Draws the users, the same for every model: users are ordered by their token before drawing.
    """
    ids = np.unique(dataset.inter_feat[dataset.uid_field].numpy())
    if n_users is None or n_users >= len(ids):
        return dataset
    order = np.argsort(dataset.field2id_token[dataset.uid_field][ids].astype(str), kind="stable")
    chosen = np.random.default_rng(seed).choice(ids[order], size=n_users, replace=False)
    keep = torch.from_numpy(np.isin(dataset.inter_feat[dataset.uid_field].numpy(), chosen))
    return dataset.copy(dataset.inter_feat[keep])
