"""Which samples an epoch has, in which wording: a function of (seed, epoch, sample) and nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.prompts import Context, PromptBuilder, Sample
from recbole_lcrec.instruction.templates import SEQUENCE_TASKS, TEMPLATES, Template

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequences:
    """The training samples of RecBole's split, in catalogue rows.

    Attributes:
        histories: int64 [n, max history length], oldest first, -1 behind the end.
        lengths: int64 [n], items in each history.
        targets: int64 [n].
        from_end: int64 [n], 0 for a user's last training sample, 1 for the one before it, ...
        user_samples: int64 [n], how many training samples the sample's user has.
    """

    histories: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    from_end: np.ndarray
    user_samples: np.ndarray

    def context(self, row: int) -> Context:
        """Return history and target of sample ``row``."""
        return Context(self.histories[row, : self.lengths[row]], int(self.targets[row]))


class TaskSamples:
    """An endless, seeded stream of one task's samples, cut into epochs.

    The stream is one shuffled pass over the samples after another, so that every sample comes as often as any other
    whatever the size of an epoch; small data repeat within an epoch, in other wordings.

    Args:
        task: Name of the task.
        sequences: Training samples of the split.
        text: The catalogue's text.
        per_epoch: Samples per epoch; None for one pass.
        windows: Length of the windows that one pass covers a user's sequence with, None to take every sample. With a
            loss on the whole history, a window of 20 items teaches what 20 samples teach, at a twentieth of the cost.
        seed: Seed of the run.
    """

    def __init__(
        self, task: str, sequences: Sequences, text: ItemText, per_epoch: int | None, windows: int | None, seed: int
    ) -> None:
        self.task = task
        self._number = list(TEMPLATES).index(task)
        self._sequences = sequences
        self._windows = windows if task in SEQUENCE_TASKS else None
        self._seed = seed
        self._title_lengths = np.array([len(title) for title in text.titles])
        self._description_lengths = np.array([len(description) for description in text.descriptions])
        self._has_title, self._has_description = self._title_lengths > 0, self._description_lengths > 0
        self._usable = self._usable_rows()
        self._pass_ends: list[int] = []
        self.per_epoch = per_epoch or len(self._usable)
        self._one_pass = per_epoch is None

    def __len__(self) -> int:
        """Number of different samples there are."""
        return len(self._usable)

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
        title, description, titles = self._flags(rows)
        choices = [self._applicable(*flags) for flags in zip(title, description, titles, strict=True)]
        return [choice[int(draw * len(choice))] for choice, draw in zip(choices, draws, strict=True)]

    def context(self, row: int) -> Context:
        """Return what sample ``row`` is filled with."""
        if self.task in SEQUENCE_TASKS:
            return self._sequences.context(row)
        return Context(np.zeros(0, np.int64), row)

    def longest_row(self, template: Template) -> int | None:
        """Return the sample whose text fills a wording with the most characters; None if it suits no sample."""
        rows = self._usable
        targets = self._sequences.targets[rows] if self.task in SEQUENCE_TASKS else rows
        suited = np.ones(len(rows), bool)
        lengths = np.zeros(len(rows), np.int64)
        for name, has, count in (
            ("title", self._has_title, self._title_lengths),
            ("description", self._has_description, self._description_lengths),
        ):
            if name in template.fields:
                suited &= has[targets]
                lengths += count[targets]
        if "titles" in template.fields:
            suited &= self._flags(rows)[2]
        return int(rows[np.argmax(np.where(suited, lengths, -1))]) if suited.any() else None

    def _shuffled(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._number, 0, number])
        return rng.permutation(self._usable if self._windows is None else self._window_rows(rng))

    def _window_rows(self, rng: np.random.Generator) -> np.ndarray:
        """Cover each user's samples with windows that end at a drawn offset from the last, so that passes differ."""
        rows = self._usable
        from_end, total = self._sequences.from_end[rows], self._sequences.user_samples[rows]
        first_of_user = rows - (total - 1 - from_end)
        offsets = rng.integers(0, self._windows, size=len(self._sequences.targets))[first_of_user]
        offsets = np.where(total > self._windows, offsets, 0)
        behind = from_end - offsets
        return rows[(behind >= 0) & (behind % self._windows == 0)]

    def _usable_rows(self) -> np.ndarray:
        n = len(self._sequences.targets) if self.task in SEQUENCE_TASKS else len(self._has_title)
        rows = np.arange(n, dtype=np.int64)
        title, description, titles = self._flags(rows)
        flags = np.stack([title, description, titles], axis=1)
        kinds, kind_of = np.unique(flags, axis=0, return_inverse=True)
        fits = np.array([bool(self._applicable(*kind)) for kind in kinds], dtype=bool)
        return rows[fits[kind_of.reshape(-1)]] if len(kinds) else rows

    def _flags(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each sample: target has a title, has a description, some history item has a title."""
        if self.task not in SEQUENCE_TASKS:
            return self._has_title[rows], self._has_description[rows], np.zeros(len(rows), bool)
        targets, histories = self._sequences.targets[rows], self._sequences.histories[rows]
        any_title = (self._has_title[histories] & (histories >= 0)).any(axis=1)
        return self._has_title[targets], self._has_description[targets], any_title

    def _applicable(self, title: bool, description: bool, titles: bool) -> list[Template]:
        have = {"history", "index"}
        have |= {"title"} if title else set()
        have |= {"description"} if description else set()
        have |= {"titles"} if titles else set()
        return [template for template in TEMPLATES[self.task] if template.fields <= have]


class EpochSamples:
    """All samples of all tasks of an epoch, built by the one prompt builder.

    Args:
        builder: The prompt builder.
        sequences: Training samples of the split.
        windows: Length of a window, see ``TaskSamples``; None unless the whole history carries loss.
        seed: Seed of the run.
    """

    def __init__(self, builder: PromptBuilder, sequences: Sequences, windows: int | None, seed: int) -> None:
        self.builder = builder
        settings = builder.settings
        # windows only pay where the history carries loss: other tasks' histories do so as well
        streams = [
            TaskSamples(task, sequences, builder.text, settings.samples_per_epoch(task), windows, seed)
            for task in TEMPLATES
            if task in settings.tasks
        ]
        for stream in streams:
            if not len(stream):
                missing = f"'{builder.text.title_field}'" if builder.text.title_field else "title (item_text_fields)"
                logger.warning("Task %s is left out: no item has the text field %s.", stream.task, missing)
        self.streams = [stream for stream in streams if len(stream)]
        self._check_room()

    def _check_room(self) -> None:
        """Build a sample of every wording, with the longest text it can ask for: max_length is wrong now or never.

        Raises:
            UserError: If ``max_length`` is too small for one of them.
        """
        for stream in self.streams:
            for template in TEMPLATES[stream.task]:
                row = stream.longest_row(template)
                if row is not None:
                    self.builder.sample(template, stream.context(row))

    @property
    def per_epoch(self) -> dict[str, int]:
        """Samples per epoch of each task that is used."""
        return {stream.task: len(stream.rows(0)) for stream in self.streams}

    def build(self, epoch: int) -> list[Sample]:
        """Return the epoch's samples, task by task."""
        samples = []
        for stream in self.streams:
            rows = stream.rows(epoch)
            for row, template in zip(rows.tolist(), stream.templates(epoch, rows), strict=True):
                samples.append(self.builder.sample(template, stream.context(row)))
        return samples
