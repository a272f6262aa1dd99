"""Every user's training interactions, read off the training part of the split and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np


def training_sequences(train: Any, row_of_id: np.ndarray) -> dict[str, np.ndarray]:
    """Return user token -> catalogue rows of the user's training interactions in time order.

    Args:
        train: The training part of a sequential dataset. A user's samples there are i_1 -> i_2; i_1, i_2 -> i_3; ...,
            so the first one's history and all targets are the interactions.
        row_of_id: Catalogue row of each of RecBole's item ids, int64 [item_num].
    """
    rows = train.inter_feat
    users = rows[train.uid_field].numpy()
    order = np.argsort(users, kind="stable")
    users = users[order]
    targets = row_of_id[rows[train.iid_field].numpy()[order]]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.zeros(0, np.int64)
    ends = np.r_[starts[1:], len(users)]
    histories = rows[f"{train.iid_field}{train.config['LIST_SUFFIX']}"].numpy()[order[starts]]
    lengths = rows[train.item_list_length_field].numpy()[order[starts]]
    tokens = train.field2id_token[train.uid_field]
    return {
        str(tokens[users[start]]): np.r_[row_of_id[history[:length]], targets[start:end]]
        for start, end, history, length in zip(starts, ends, histories, lengths, strict=True)
    }
