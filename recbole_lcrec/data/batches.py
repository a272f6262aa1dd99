"""Which rows a training epoch has, and which of them share a batch: functions of (seed, epoch) and nothing else.

RecBole's loader shuffles with a generator whose state depends on past epochs, so a training resumed from a checkpoint
would see other batches; and it fills its batches at random, so that much of a batch of sequences is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.settings import StageSettings, settings_from

_BUCKET_BATCHES = 50
"""Batches that are sorted by length together: enough for little padding, few enough to keep batches random."""

_MUCH_PADDING = 1 / 3
"""Share of padding from which running rows of similar length by themselves pays."""

DRAW = "draw"
"""Field of ``SequenceDataLoader``: a number in [0, 1) by which a model may choose among wordings."""


def batches_by_length(
    lengths: np.ndarray,
    step: int,
    accumulated: int,
    rng: np.random.Generator,
    *,
    shuffle: bool,
    counts: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield the sample numbers of each batch: shuffled, sorted by length within buckets, batches shuffled.

    Batches are drawn for ``step * accumulated`` samples and then cut, so that 1 x 8 sees what 8 x 1 sees.

    Args:
        lengths: int64 [n], the length of each sample.
        step: Samples of a batch.
        accumulated: Batches per optimizer step.
        rng: Draws the order.
        shuffle: Whether to draw the order at all.
        counts: int64 [n], how many samples each of ``lengths`` stands for, at most ``step``; None for one each.
    """
    if counts is not None and (counts > 1).any():
        yield from _batches_of_several(lengths, counts, step, accumulated, rng, shuffle=shuffle)
        return
    size = step * accumulated
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    buckets = [order[i : i + size * _BUCKET_BATCHES] for i in range(0, len(order), size * _BUCKET_BATCHES)]
    order = np.concatenate([bucket[np.argsort(lengths[bucket], kind="stable")] for bucket in buckets])
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    whole = len(batches) - (len(batches[-1]) < size)  # a short batch stays last, so that steps stay aligned
    shuffled = rng.permutation(whole).tolist() if shuffle else list(range(whole))
    for number in [*shuffled, *range(whole, len(batches))]:
        batch = batches[number]
        yield from (batch[i : i + step] for i in range(0, len(batch), step))


def _batches_of_several(
    lengths: np.ndarray, counts: np.ndarray, step: int, accumulated: int, rng: np.random.Generator, *, shuffle: bool
) -> Iterator[np.ndarray]:
    """Yield batches as ``batches_by_length`` does, of rows with several samples each: about ``step`` samples a batch.

    As no row holds more than ``step`` samples, the number of batches is the same as with one sample per row.
    """
    size = step * accumulated
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    bucket = (counts[order].cumsum() - 1) // (size * _BUCKET_BATCHES)
    order = order[np.lexsort((lengths[order], bucket))]
    piece = (counts[order].cumsum() - 1) // step  # of the row's last sample
    pieces = np.split(order, np.flatnonzero(np.diff(piece)) + 1)
    steps = [pieces[i : i + accumulated] for i in range(0, len(pieces), accumulated)]
    whole = len(steps) - (counts.sum() % size != 0)
    shuffled = rng.permutation(whole).tolist() if shuffle else list(range(whole))
    for number in [*shuffled, *range(whole, len(steps))]:
        yield from steps[number]


def length_groups(lengths: torch.Tensor, n_groups: int = 4) -> list[torch.Tensor]:
    """Return the rows of a batch to run together, int64 [n] each: sorted by length if much of the batch is padding.

    Args:
        lengths: Of each row, int64 [B].
        n_groups: Number of groups then, of equal numbers of rows; else there is one.
    """
    if int(lengths.sum()) > (1 - _MUCH_PADDING) * int(lengths.max()) * len(lengths):
        return [torch.arange(len(lengths), device=lengths.device)]
    return list(torch.argsort(lengths, stable=True).chunk(n_groups))


def epoch_rows(n_rows: int, per_epoch: int, epoch: int, seed: int) -> np.ndarray:
    """Return the rows of an epoch, int64 [per_epoch]: a piece of an endless stream of shuffled passes over all rows.

    All rows come equally often, whatever the size of an epoch.

    Args:
        n_rows: Number of rows.
        per_epoch: Rows of an epoch, fewer or more than ``n_rows``.
        epoch: Number of the epoch, from 0.
        seed: Seed of the run.
    """
    start, end = epoch * per_epoch, (epoch + 1) * per_epoch
    passes = range(start // n_rows, (end - 1) // n_rows + 1)
    stream = np.concatenate([np.random.default_rng([seed, number]).permutation(n_rows) for number in passes])
    return stream[start - passes.start * n_rows : end - passes.start * n_rows]


def on_device(batch: Interaction, device: torch.device) -> Interaction:
    """Return a batch on the device that a model runs on.

    Batches for a GPU are copied from page-locked memory without waiting for the copy: the GPU, not the CPU, holds
    back the kernels that read them. For any other device there is nothing to gain.

    Args:
        batch: Tensors on any device.
        device: Where to put them.
    """
    if device.type != "cuda":
        return batch.to(device)
    return Interaction({name: _to_gpu(values, device) for name, values in batch.interaction.items()})


def _to_gpu(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    pinned = values.pin_memory() if values.device.type == "cpu" else values
    return pinned.to(device, non_blocking=True)


@dataclass(frozen=True)
class SequenceSettings(StageSettings):
    """Options of the loader; they are explained in properties/t5.yaml."""

    train_samples: int | None


class SequenceDataLoader(TrainDataLoader):
    """RecBole's loader of sequential training rows (every prefix of a user's items -> the next item).

    The differences: the rows and their order are a function of (seed, epoch); histories of similar length share a
    batch; with ``train_samples``, an epoch has that many rows, for data of any size; each row has a number ``draw``.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a sequential dataset.
        sampler: Unused (there are no negative items); RecBole's loaders take one.
        shuffle: Whether rows come in random order.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any = None, shuffle: bool = True) -> None:
        self.pool = self.rows(dataset)
        self.per_epoch = settings_from(SequenceSettings, config).train_samples or len(self.pool)
        self.epoch = 0
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def rows(self, dataset: Any) -> np.ndarray:
        """Return the rows of the training part from which epochs are drawn, int64 [n]."""
        return np.arange(len(dataset))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose rows the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.per_epoch / self.step)

    def __iter__(self) -> Iterator[Interaction]:
        run = RunOptions(self.config)
        dataset, seed = self._dataset, run.seed
        rows = self.pool[np.arange(self.per_epoch) % len(self.pool)]
        if self.shuffle:
            rows = self.pool[epoch_rows(len(self.pool), self.per_epoch, self.epoch, seed)]
        draws = np.random.default_rng([seed, self.epoch, 1]).random(len(rows))
        lengths = dataset.inter_feat[dataset.item_list_length_field].numpy()[rows]
        rng = np.random.default_rng([seed, self.epoch, 0])
        accumulated = run.gradient_accumulation_steps
        for batch in batches_by_length(lengths, self.step, accumulated, rng, shuffle=self.shuffle):
            interaction = self.collate_fn(rows[batch])
            interaction.update(Interaction({DRAW: torch.from_numpy(draws[batch])}))
            yield interaction


class WindowDataLoader(SequenceDataLoader):
    """For models that predict every item of a row's history, too: rows that cover each training target once.

    A user's last row covers the last MAX_ITEM_LIST_LENGTH targets, the row that many before it the targets before
    these, and so on. Of a ready split, whose rows need not follow each other, all rows are taken.
    """

    def rows(self, dataset: Any) -> np.ndarray:
        """Return the last row of each window of each user, int64 [n], ascending."""
        if RunOptions(dataset.config).benchmark_filename is not None:
            return super().rows(dataset)
        users = dataset.inter_feat[dataset.uid_field].numpy()
        order = np.argsort(users, kind="stable")
        ends = np.flatnonzero(np.r_[users[order][1:] != users[order][:-1], True])
        to_end = ends[np.searchsorted(ends, np.arange(len(order)))] - np.arange(len(order))
        return np.sort(order[to_end % RunOptions(dataset.config).max_history == 0])
