"""What each task's samples are made of: items, sequences of users, or what users say.

A source numbers its samples and tells which placeholders each can fill; ``TaskSamples`` draws from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import JUDGEMENT_TASKS, SEQUENCE_TASKS, USER_TASKS
from recbole_lcrec.usertext.texts import Intention, Preferences, UserTexts

YES, NO = "Yes", "No"
"""Answers to the question whether a user will enjoy an item."""


@dataclass(frozen=True)
class Sequences:
    """The training samples of RecBole's split, in catalogue rows.

    Attributes:
        histories: int64 [n, max history length], oldest first, padded with -1 at the end.
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


class SampleSource(ABC):
    """The samples of a task."""

    lacks: str = "it has no samples"
    """What is missing when there are no samples."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples, including those without text."""

    @abstractmethod
    def characters(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Return the number of characters for a placeholder, int64 [n]; 0 without text and for index tokens."""

    @abstractmethod
    def context(self, row: int, draw: float = 0.0) -> Context:
        """Return the context of sample ``row``; ``draw`` in [0, 1) chooses among equivalent texts."""

    def has(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Return which samples can fill a placeholder, bool [n]."""
        return self.characters(field, rows) > 0

    def longest_context(self, row: int) -> Context:
        """Return the context that fills sample ``row`` with the most characters."""
        return self.context(row)


class ItemSource(SampleSource):
    """One sample per item of the catalogue."""

    def __init__(self, text: ItemText) -> None:
        self._lengths = _lengths_of(text)
        self.lacks = _no_title(text)

    def __len__(self) -> int:
        return len(self._lengths["title"])

    def characters(self, field: str, rows: np.ndarray) -> np.ndarray:
        return self._lengths[field][rows] if field in self._lengths else np.zeros(len(rows), np.int64)

    def has(self, field: str, rows: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), bool) if field == "index" else super().has(field, rows)

    def context(self, row: int, draw: float = 0.0) -> Context:
        return Context(np.zeros(0, np.int64), row)


class SequenceSource(SampleSource):
    """One sample per training sample of the split: a history and its target."""

    def __init__(self, sequences: Sequences, text: ItemText) -> None:
        self.sequences = sequences
        self._lengths = _lengths_of(text)
        self.lacks = _no_title(text)

    def __len__(self) -> int:
        return len(self.sequences.targets)

    def characters(self, field: str, rows: np.ndarray) -> np.ndarray:
        if field not in self._lengths:
            return np.zeros(len(rows), np.int64)
        return self._lengths[field][self.sequences.targets[rows]]

    def has(self, field: str, rows: np.ndarray) -> np.ndarray:
        if field == "titles":
            histories = self.sequences.histories[rows]
            return ((self._lengths["title"] > 0)[histories] & (histories >= 0)).any(axis=1)
        if field in ("index", "history"):
            return np.ones(len(rows), bool)
        return super().has(field, rows)

    def context(self, row: int, draw: float = 0.0) -> Context:
        return self.sequences.context(row)


class JudgementSource(SequenceSource):
    """Two samples per training sample of the split: is its target enjoyed (Yes), and is another item (No)?

    Sample 2 i asks about the target of training sample i. Sample 2 i + 1 asks about an item of the catalogue, drawn
    uniformly anew every time from those without a training interaction of the user.
    """

    def __init__(self, sequences: Sequences, text: ItemText) -> None:
        super().__init__(sequences, text)
        first = np.arange(len(sequences.targets)) - (sequences.user_samples - 1 - sequences.from_end)
        starts, self._user_of = np.unique(first, return_inverse=True)
        ends = np.append(starts[1:], len(first))
        self._taken = [
            np.setdiff1d(np.append(sequences.histories[start:end], sequences.targets[start:end]), [-1])
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        self._n_items = len(text.items)
        self._free = np.array([self._n_items - len(taken) for taken in self._taken], np.int64)

    def __len__(self) -> int:
        return 2 * len(self.sequences.targets)

    def has(self, field: str, rows: np.ndarray) -> np.ndarray:
        if field in ("candidate", "answer"):  # a user who has had every item cannot be asked about another
            return (rows % 2 == 0) | (self._free[self._user_of[rows // 2]] > 0)
        return super().has(field, rows // 2)

    def characters(self, field: str, rows: np.ndarray) -> np.ndarray:
        if field == "candidate":
            return super().characters("title", rows // 2)
        return super().characters(field, rows // 2)

    def context(self, row: int, draw: float = 0.0) -> Context:
        asked = self.sequences.context(row // 2)
        if row % 2 == 0:
            return Context(asked.history, candidate=asked.target, answer=YES)
        user = int(self._user_of[row // 2])
        taken = self._taken[user]
        nth = int(draw * self._free[user])
        # taken[i] - i free rows lie before taken[i]: skip the taken ones that precede the nth free row
        skipped = int(np.searchsorted(taken - np.arange(len(taken)), nth, side="right"))
        return Context(asked.history, candidate=nth + skipped, answer=NO)


class UserSource(SampleSource):
    """One sample per user with a text: an intention and the item that answers it, or preferences.

    Args:
        task: One of USER_TASKS.
        texts: What the users say.
        text: The catalogue's text.
    """

    def __init__(self, task: str, texts: UserTexts, text: ItemText) -> None:
        search = task != "preferenceobtain"
        users = list(texts.intentions if search else texts.preferences)
        entries: list[Intention | Preferences] = [
            texts.intentions[user] if search else texts.preferences[user] for user in users
        ]
        self._targets = [entry.target if isinstance(entry, Intention) else None for entry in entries]
        self._histories = [np.array(entry.history, np.int64) for entry in entries]
        self._given = {
            "history": np.array([len(history) > 0 for history in self._histories], bool),
            "index": np.array([target is not None for target in self._targets], bool),
            "titles": np.array([any(text.titles[row] for row in rows) for rows in self._histories], bool),
        }
        self._texts = {
            "intention": [texts.intentions[user].queries if search else () for user in users],
            "preferences": [texts.preferences[user].texts if user in texts.preferences else () for user in users],
        }
        self._lengths = {
            field: np.array([max(map(len, some), default=0) for some in lists], np.int64)
            for field, lists in self._texts.items()
        }
        self._lengths["title"] = np.array(
            [0 if target is None else len(text.titles[target]) for target in self._targets], np.int64
        )
        missing = "has an intention" if search else "has preferences"
        self.lacks = f"no user {missing} in words ({texts.source})"

    def __len__(self) -> int:
        return len(self._histories)

    def characters(self, field: str, rows: np.ndarray) -> np.ndarray:
        return self._lengths[field][rows] if field in self._lengths else np.zeros(len(rows), np.int64)

    def has(self, field: str, rows: np.ndarray) -> np.ndarray:
        return self._given[field][rows] if field in self._given else super().has(field, rows)

    def context(self, row: int, draw: float = 0.0) -> Context:
        # the same share of each list: one draw per sample is enough
        chosen: dict[str, Any] = {
            field: lists[row][int(draw * len(lists[row]))] for field, lists in self._texts.items() if lists[row]
        }
        return Context(self._histories[row], self._targets[row], **chosen)

    def longest_context(self, row: int) -> Context:
        longest: dict[str, Any] = {field: max(lists[row], key=len, default="") for field, lists in self._texts.items()}
        return Context(self._histories[row], self._targets[row], **longest)


def source_of(task: str, sequences: Sequences, text: ItemText, user_texts: UserTexts) -> SampleSource:
    """Return the source of a task's samples."""
    if task in SEQUENCE_TASKS:
        return SequenceSource(sequences, text)
    if task in JUDGEMENT_TASKS:
        return JudgementSource(sequences, text)
    return UserSource(task, user_texts, text) if task in USER_TASKS else ItemSource(text)


def _lengths_of(text: ItemText) -> dict[str, np.ndarray]:
    return {
        "title": np.array([len(title) for title in text.titles], np.int64),
        "description": np.array([len(description) for description in text.descriptions], np.int64),
    }


def _no_title(text: ItemText) -> str:
    missing = f"'{text.title_field}'" if text.title_field else "title (item_text_fields)"
    return f"no item has the text field {missing}"
