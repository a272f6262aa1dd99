"""The train data loader of the stage that learns from preferences: histories and the items that followed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import batches_by_length, epoch_rows

HISTORY, LENGTH, TARGET = "history", "length", "target"
_PURPOSE = 0x9EFE  # added to the run's seed, so that the rows differ from those of its other shuffles


class HistoryLoader(AbstractDataLoader):
    """Yields training samples of the split in catalogue rows; which ones is a function of (seed, epoch).

    Each batch has ``history`` int64 [B, H], oldest first and padded with -1 at the end, ``length`` int64 [B] and
    ``target`` int64 [B]. Histories of similar length share a batch.

    Args:
        config: The experiment's configuration.
        dataset: The training part of an InstructionData set.
        per_epoch: Samples per epoch; None for every sample once.
        first_epoch: Number of the first epoch.
    """

    def __init__(self, config: Any, dataset: Any, per_epoch: int | None, first_epoch: int) -> None:
        self._sequences = dataset.sequences()
        self.sample_size = per_epoch or len(self._sequences.targets)
        self._first, self._epoch = first_epoch, first_epoch
        super().__init__(config, dataset, None, shuffle=True)

    def _init_batch_size_and_step(self) -> None:
        self.step = RunOptions(self.config).train_batch_size
        self.set_batch_size(self.step)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples the next iteration yields."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.sample_size / self.step)

    def __iter__(self) -> Iterator[Interaction]:
        run, sequences = RunOptions(self.config), self._sequences
        number = self._epoch - self._first
        rows = epoch_rows(len(sequences.targets), self.sample_size, number, run.seed + _PURPOSE)
        rng = np.random.default_rng([run.seed, _PURPOSE, number])
        lengths = sequences.lengths[rows]
        for batch in batches_by_length(lengths, self.step, run.gradient_accumulation_steps, rng, shuffle=True):
            mine = rows[batch]
            fields = {
                HISTORY: sequences.histories[mine],
                LENGTH: sequences.lengths[mine],
                TARGET: sequences.targets[mine],
            }
            yield Interaction({name: torch.from_numpy(values) for name, values in fields.items()})
