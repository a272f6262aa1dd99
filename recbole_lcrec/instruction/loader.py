"""The train data loader of generative models: instruction samples in batches of similar length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import batches_by_length
from recbole_lcrec.instruction.nesting import MOST
from recbole_lcrec.instruction.prompts import Sample
from recbole_lcrec.instruction.samples import EpochSamples
from recbole_lcrec.instruction.table import SampleTable
from recbole_lcrec.utils.errors import UserError

INPUT_IDS, LOSS_WEIGHTS, ASIDE = "input_ids", "loss_weights", "aside"


class InstructionDataLoader(AbstractDataLoader):
    """Yields the samples of the current epoch as Interactions of padded tensors.

    Each batch has ``input_ids`` int64 [B, T], right-padded (so that a causal LM needs no mask), ``loss_weights``
    float32 [B, T], and, if any, ``aside`` bool [B, T] (see ``Sample``). Samples of similar length share a batch.
    Batches are drawn for ``train_batch_size * gradient_accumulation_steps`` samples and then cut, so that 1 x 8 sees
    what 8 x 1 sees.

    Attributes:
        nests: Whether samples of a user share a row (``nest_histories``); batches then vary a little in size.

    Args:
        config: The experiment's configuration.
        dataset: The training part of an InstructionData set.
        sampler: Unused (there are no negative items); RecBole's loaders take one.
        shuffle: Whether batches come in random order.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any = None, shuffle: bool = True) -> None:
        run = RunOptions(config)
        settings = dataset.catalogue.builder.settings
        windows = run.max_history if settings.history_windows else None
        self.samples = EpochSamples(
            dataset.catalogue.builder, dataset.sequences(), windows, run.seed, dataset.catalogue.user_texts
        )
        if not set(settings.recommending) & set(self.samples.per_epoch):
            raise UserError(
                f"{dataset.dataset_name}: no training sample. At least one user needs two interactions "
                "in the training part."
            )
        self.sample_size = sum(self.samples.per_epoch.values())
        self.nests = settings.nests_histories
        self.epoch = 0
        self._built: tuple[int, SampleTable] | None = None
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def _init_batch_size_and_step(self) -> None:
        self.step = RunOptions(self.config).train_batch_size
        self.set_batch_size(self.step)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.sample_size / self.step)

    def __iter__(self) -> Iterator[Interaction]:
        run = RunOptions(self.config)
        built, self._built = self._built, None
        samples = built[1] if built and built[0] == self.epoch else self._build()
        rng = np.random.default_rng([run.seed, self.epoch])
        accumulated = run.gradient_accumulation_steps
        drawn = {"shuffle": self.shuffle, "counts": samples.counts}
        for batch in batches_by_length(samples.lengths, self.step, accumulated, rng, **drawn):
            yield collate([samples[i] for i in batch], self.samples.builder.pad_id)

    def first_batches(self, count: int) -> list[Interaction]:
        """Return the first batches of the chosen epoch; the next iteration does not rebuild its samples."""
        samples = self._build()
        self._built = self.epoch, samples
        batches = list(islice(iter(self), count))
        self._built = self.epoch, samples
        return batches

    def _build(self) -> SampleTable:
        return self.samples.build(self.epoch, min(self.step, MOST) if self.nests else 1)


def collate(samples: list[Sample], pad_id: int) -> Interaction:
    """Pad samples at the right into one Interaction (see ``InstructionDataLoader``)."""
    width = max(len(sample.ids) for sample in samples)
    ids = np.full((len(samples), width), pad_id, np.int64)
    weights = np.zeros((len(samples), width), np.float32)
    aside = np.zeros((len(samples), width), bool)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = sample.ids
        weights[row, : len(sample.ids)] = sample.weights
        if sample.aside is not None:
            aside[row, : len(sample.ids)] = sample.aside
    fields = {INPUT_IDS: torch.from_numpy(ids), LOSS_WEIGHTS: torch.from_numpy(weights)}
    return Interaction(fields | ({ASIDE: torch.from_numpy(aside)} if aside.any() else {}))


def left_pad(prompts: list[np.ndarray], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad prompts at the left for generation: (input_ids, attention_mask), both int64 [B, T]."""
    width = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), width), pad_id, np.int64)
    mask = np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


@dataclass(frozen=True)
class LaidPaths:
    """Prompts, each followed by the paths of some items, as a training forward takes them.

    Attributes:
        ids: int64 [N, T], right-padded.
        where: bool [N, T], the positions before each code, in the order of prompts, items, codes.
        lengths: int64 [N].
        runs: Number of the item whose path a token belongs to, int64 [N, T] from 1, 0 in prompts; None if every item
            has a row of its own.
    """

    ids: torch.Tensor
    where: torch.Tensor
    lengths: torch.Tensor
    runs: torch.Tensor | None = None

    def to(self, device: torch.device) -> LaidPaths:
        """Return the same on a device."""
        runs = None if self.runs is None else self.runs.to(device)
        return LaidPaths(self.ids.to(device), self.where.to(device), self.lengths.to(device), runs)


def hung_behind(prompts: Sequence[np.ndarray], paths: np.ndarray, pad_id: int) -> LaidPaths:
    """Lay all paths of a prompt after it in one row; each begins with the prompt's last token, to predict its code.

    Args:
        prompts: Token ids of B prompts, int32 [length].
        paths: Vocabulary ids, int64 [B, C, L].
        pad_id: Pads rows.
    """
    n_items, n_codes = paths.shape[1:]
    hung = n_items * (n_codes + 1)
    shape = (len(prompts), max(map(len, prompts)) - 1 + hung)
    ids, runs, where = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
    for row, (prompt, own) in enumerate(zip(prompts, paths, strict=True)):
        here = slice(len(prompt) - 1, len(prompt) - 1 + hung)
        ids[row, : here.start] = prompt[:-1]
        ids[row, here] = np.insert(own, 0, prompt[-1], axis=1).reshape(-1)
        runs[row, here] = np.repeat(np.arange(1, n_items + 1), n_codes + 1)
        where[row, here] = np.tile(np.arange(n_codes + 1) < n_codes, n_items)
    lengths = np.array([len(prompt) - 1 + hung for prompt in prompts])
    return LaidPaths(*map(torch.from_numpy, (ids, where, lengths, runs)))


def beside_each_other(prompts: Sequence[np.ndarray], paths: np.ndarray, pad_id: int) -> LaidPaths:
    """Lay each path after its prompt in a row of its own; arguments as for ``hung_behind``."""
    n_items, n_codes = paths.shape[1:]
    lengths = np.repeat([len(prompt) + n_codes for prompt in prompts], n_items)
    ids = np.full((len(lengths), int(lengths.max())), pad_id, np.int64)
    for row, path in enumerate(paths.reshape(-1, n_codes)):
        prompt = prompts[row // n_items]
        ids[row, : lengths[row]] = np.concatenate([prompt, path])
    behind = np.arange(ids.shape[1]) - (lengths[:, np.newaxis] - n_codes - 1)
    where = (behind >= 0) & (behind < n_codes)
    return LaidPaths(*map(torch.from_numpy, (ids, where, lengths)))
