"""Data that come with a split: RecBole's ``benchmark_filename``, with ready histories, for every model.

The files are ``<name>.<part>.inter`` with the columns user_id, item_id (the target) and item_id_list (the history,
oldest first). In this mode RecBole silently cuts histories to their *first* items and ignores filters; here histories
keep the most recent items, and filters are refused (``config.relations``). General models get the pairs in the
histories and targets of the training rows, so that all models learn from the same interactions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.utils.errors import UserError


def recent_histories(dataset: Dataset, length: int) -> None:
    """Cut the history of every row to its last ``length`` items, in the dataframe that RecBole has loaded.

    Raises:
        UserError: If there is no history column, or a row has no history.
    """
    feat, suffix = dataset.inter_feat, RunOptions(dataset.config).list_suffix
    column = f"{dataset.iid_field}{suffix}"
    if column not in feat:
        raise UserError(
            f"{dataset.dataset_name}: the files of benchmark_filename have no column {column}:token_seq, the history "
            "of each row (item tokens, oldest first, separated by blanks). Add it, or give the whole data in one file."
        )
    empty = np.flatnonzero(np.array([len(history) == 0 for history in feat[column]]))
    if len(empty):
        raise UserError(
            f"{dataset.dataset_name}: {len(empty)} rows of the files of benchmark_filename have an empty {column}; "
            "every row needs at least one item of history."
        )
    for name in [name for name in feat if name.endswith(suffix)]:
        feat[name] = [history[-length:] for history in feat[name]]
        dataset.field2seqlen[name] = length


def training_pairs(train: Dataset) -> Interaction:
    """Return user-item pairs for a general model: the targets, and the pairs that only the histories hold.

    A pair from a history is a copy of the row in which it was found, with the item replaced.
    """
    rows = train.inter_feat
    users, items = rows[train.uid_field].numpy(), rows[train.iid_field].numpy()
    histories = rows[train.iid_field + RunOptions(train.config).list_suffix].numpy()
    place, _ = np.nonzero(histories)
    pairs = pd.DataFrame(
        {
            "user": np.r_[users, users[place]],
            "item": np.r_[items, histories[histories != 0]],
            "row": np.r_[np.arange(len(users)), place],
            "added": np.r_[np.zeros(len(users), bool), np.ones(len(place), bool)],
        }
    )
    added = pairs[~pairs.duplicated(["user", "item"]) & pairs.added]
    extra = rows[torch.from_numpy(added.row.to_numpy())]
    extra.update(Interaction({train.iid_field: torch.from_numpy(added.item.to_numpy())}))
    return Interaction({name: torch.cat([rows[name], extra[name]]) for name in rows.columns})
