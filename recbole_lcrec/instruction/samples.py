"""Which samples an epoch has, in which wording: a function of (seed, epoch, sample) and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.nesting import nested_rows, nests
from recbole_lcrec.instruction.prompts import Context, PromptBuilder, Sample
from recbole_lcrec.instruction.sources import Sequences, SequenceSource, source_of
from recbole_lcrec.instruction.table import SampleTable
from recbole_lcrec.instruction.templates import ALL_TEMPLATES, SEQUENCE_TASKS, Template
from recbole_lcrec.usertext.texts import NO_USER_TEXTS, UserTexts

logger = logging.getLogger(__name__)

__all__ = ["EpochSamples", "Sequences", "TaskSamples"]


class TaskSamples:
    """An endless, seeded stream of one task's samples, cut into epochs.

    The stream is one shuffled pass over the samples after another, so that all samples come equally often whatever
    the size of an epoch; small data repeat within an epoch, in other wordings.

    Args:
        task: Name of the task.
        sequences: Training samples of the split.
        text: The catalogue's text.
        per_epoch: Samples per epoch; None for one pass.
        windows: Length of the windows with which a pass covers a user's sequence; None to take every sample. With a
            loss on the whole history, a window of 20 items teaches what 20 samples teach, at a twentieth of the cost.
        seed: Seed of the run.
        user_texts: What the users say.
    """

    def __init__(
        self,
        task: str,
        sequences: Sequences,
        text: ItemText,
        per_epoch: int | None,
        windows: int | None,
        seed: int,
        user_texts: UserTexts = NO_USER_TEXTS,
    ) -> None:
        self.task = task
        self.source = source_of(task, sequences, text, user_texts)
        self._number = list(ALL_TEMPLATES).index(task)
        self._windows = windows if task in SEQUENCE_TASKS else None
        self._seed = seed
        self._usable = self._usable_rows()
        self._pass_ends: list[int] = []
        self.per_epoch = per_epoch or len(self._usable)
        self._one_pass = per_epoch is None

    def __len__(self) -> int:
        """Number of distinct samples."""
        return len(self._usable)

    def draw(self, epoch: int) -> Iterator[tuple[int, Template, Context]]:
        """Yield (sample number, wording, what it is filled with) of each sample of ``epoch``."""
        rows = self.rows(epoch)
        # chooses among a sample's equivalent texts
        draws = np.random.default_rng([self._seed, self._number, 2, epoch]).random(len(rows))
        for row, template, draw in zip(rows.tolist(), self.templates(epoch, rows), draws.tolist(), strict=True):
            yield row, template, self.source.context(row, draw)

    def rows(self, epoch: int) -> np.ndarray:
        """Return the sample numbers of ``epoch`` in stream order, int64 [samples per epoch]."""
        if self._one_pass:
            return self._shuffled(epoch)
        start, end = epoch * self.per_epoch, (epoch + 1) * self.per_epoch
        while not self._pass_ends or self._pass_ends[-1] < end:
            so_far = self._pass_ends[-1] if self._pass_ends else 0
            self._pass_ends.append(so_far + len(self._shuffled(len(self._pass_ends))))
        first = int(np.searchsorted(self._pass_ends, start, side="right"))
        last = int(np.searchsorted(self._pass_ends, end, side="left"))
        offset = self._pass_ends[first - 1] if first else 0
        stream = np.concatenate([self._shuffled(number) for number in range(first, last + 1)])
        return stream[start - offset : end - offset]

    def templates(self, epoch: int, rows: np.ndarray) -> list[Template]:
        """Draw one wording per sample among those whose text the sample has."""
        draws = np.random.default_rng([self._seed, self._number, 1, epoch]).random(len(rows))
        kinds, kind_of = self._kinds(rows)
        choices = [kinds[kind] for kind in kind_of.tolist()]
        return [choice[int(draw * len(choice))] for choice, draw in zip(choices, draws.tolist(), strict=True)]

    def longest(self, template: Template) -> Context | None:
        """Return the context that fills a wording with the most characters; None if it suits no sample."""
        rows, fields = self._usable, template.fields
        suited = np.logical_and.reduce([self.source.has(field, rows) for field in sorted(fields)])
        if not suited.any():
            return None
        lengths = sum((self.source.characters(field, rows) for field in sorted(fields)), np.zeros(len(rows), np.int64))
        return self.source.longest_context(int(rows[np.argmax(np.where(suited, lengths, -1))]))

    def _shuffled(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._number, 0, number])
        return rng.permutation(self._usable if self._windows is None else self._window_rows(rng))

    def _window_rows(self, rng: np.random.Generator) -> np.ndarray:
        """Cover each user's samples with windows that end at a drawn offset from the last, so that passes differ."""
        assert isinstance(self.source, SequenceSource) and self._windows is not None
        rows, sequences = self._usable, self.source.sequences
        from_end, total = sequences.from_end[rows], sequences.user_samples[rows]
        first_of_user = rows - (total - 1 - from_end)
        offsets = rng.integers(0, self._windows, size=len(sequences.targets))[first_of_user]
        offsets = np.where(total > self._windows, offsets, 0)
        behind = from_end - offsets
        return rows[(behind >= 0) & (behind % self._windows == 0)]

    def _usable_rows(self) -> np.ndarray:
        rows = np.arange(len(self.source), dtype=np.int64)
        kinds, kind_of = self._kinds(rows)
        return rows[np.array([bool(kind) for kind in kinds], dtype=bool)[kind_of]] if len(rows) else rows

    def _kinds(self, rows: np.ndarray) -> tuple[list[list[Template]], np.ndarray]:
        """Group samples by the texts that they have: the wordings that suit each group, and each sample's group."""
        templates = ALL_TEMPLATES[self.task]
        fields = sorted({field for template in templates for field in template.fields})
        flags = np.stack([self.source.has(field, rows) for field in fields], axis=1)
        found, kind_of = np.unique(flags, axis=0, return_inverse=True)
        have = [{field for field, flag in zip(fields, kind, strict=True) if flag} for kind in found.tolist()]
        suited = [[template for template in templates if template.fields <= some] for some in have]
        return suited, kind_of.reshape(-1)


class EpochSamples:
    """All samples of all tasks of an epoch, built by the one prompt builder.

    Args:
        builder: The prompt builder.
        sequences: Training samples of the split.
        windows: Length of a window, see ``TaskSamples``; None unless the whole history carries loss.
        seed: Seed of the run.
        user_texts: What the users say.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        sequences: Sequences,
        windows: int | None,
        seed: int,
        user_texts: UserTexts = NO_USER_TEXTS,
    ) -> None:
        self.builder = builder
        settings = builder.settings
        # windows only pay off if the history carries loss, as the histories of the other tasks then do as well
        streams = [
            TaskSamples(task, sequences, builder.text, settings.samples_per_epoch(task), windows, seed, user_texts)
            for task in settings.templates
            if task in settings.tasks
        ]
        for stream in streams:
            if not len(stream):
                logger.warning("Task %s is left out: %s.", stream.task, stream.source.lacks)
        self.streams = [stream for stream in streams if len(stream)]
        self._check_room()

    def _check_room(self) -> None:
        """Build a sample of every wording, with its longest possible text: max_length proves too small now or never.

        Raises:
            UserError: If ``max_length`` is too small for one of them.
        """
        for stream in self.streams:
            for template in ALL_TEMPLATES[stream.task]:
                context = stream.longest(template)
                if context is not None:
                    self.builder.sample(template, context)

    @property
    def per_epoch(self) -> dict[str, int]:
        """Samples per epoch of each task that is used."""
        return {stream.task: len(stream.rows(0)) for stream in self.streams}

    def build(self, epoch: int, most: int = 1) -> SampleTable:
        """Return the epoch's samples, task by task.

        Args:
            epoch: Number of the epoch.
            most: Most samples of one user that share a row.
        """
        if most < 2:
            return SampleTable(sample for stream in self.streams for _, sample in self.of_task(stream, epoch))
        return SampleTable(sample for stream in self.streams for sample in self._rows(stream, epoch, most))

    def _rows(self, stream: TaskSamples, epoch: int, most: int) -> Iterator[Sample]:
        """Yield the samples of one task; those of a user that nest share a row."""
        if not isinstance(stream.source, SequenceSource) or not any(map(nests, ALL_TEMPLATES[stream.task])):
            yield from (sample for _, sample in self.of_task(stream, epoch))
            return
        weight, drawn = self.builder.settings.weight(stream.task), list(stream.draw(epoch))
        for sample in nested_rows(self.builder, stream.source, drawn, most):
            yield sample if weight == 1 else replace(sample, weights=sample.weights * np.float32(weight))

    def of_task(self, stream: TaskSamples, epoch: int) -> Iterator[tuple[int, Sample]]:
        """Yield (sample number, sample) of one task; ``task_weights`` scales the loss of each."""
        weight = self.builder.settings.weight(stream.task)
        for row, template, context in stream.draw(epoch):
            sample = self.builder.sample(template, context)
            yield row, sample if weight == 1 else replace(sample, weights=sample.weights * np.float32(weight))
