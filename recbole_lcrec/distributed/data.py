"""How data and randomness are shared out: which rows of a batch, and which batches of an evaluation, are whose.

Every process draws the same batches, from generators in the same state, and takes its rows of each. So the rows and
the sampled negatives of a step are those of a single process, for every model and loader, and nothing is sent.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.utils import ModelType

from recbole_lcrec.distributed import group


def share_of(batch: Any) -> tuple[Any, bool]:
    """Return this process's rows of a batch, and whether they count.

    If there are fewer rows than processes, those without a row take the first one with weight 0: they take part in the
    step, so that no process waits for them.

    Args:
        batch: RecBole's Interaction, the same in all processes.
    """
    place = group.place()
    if place.rank < len(batch):
        return batch[place.rank :: place.world_size], True
    return batch[:1], False


def fingerprint_of(batch: Any) -> float:
    """Return a number that shows whether processes see the same batch: a checksum of its first column."""
    column = batch[batch.columns[0]]
    return float(zlib.crc32(np.ascontiguousarray(column.cpu().numpy()).data))


def share_randomness(seed: int) -> None:
    """Give each process its own dropout; what numpy and the loaders draw stays the same for all.

    Args:
        seed: Seed of the run.
    """
    rank = group.place().rank
    if rank:
        torch.manual_seed(seed + rank)


@contextmanager
def balanced(config: Any, n_users: int) -> Iterator[None]:
    """While an evaluation loader is made, make sure that it has enough batches for all processes.

    Only a loader of histories counts users in ``eval_batch_size``; RecBole's others have a few users per batch.

    Args:
        config: The experiment's configuration.
        n_users: Histories to evaluate.
    """
    before = config["eval_batch_size"]
    if group.several() and config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        config["eval_batch_size"] = max(min(before, -(-n_users // group.place().world_size)), 1)
    try:
        yield
    finally:
        config["eval_batch_size"] = before
