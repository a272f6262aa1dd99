"""What a recommender answers: small values that read well in a terminal, in a notebook and as a table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from recbole_lcrec.utils.errors import clipped

MODEL, POPULARITY, TEXTS, TITLES = "model", "popularity", "texts", "titles"
"""Where a list of items comes from: the model; how often items were taken, if nothing is known about the user; the
embeddings of the items' texts; the titles alone."""

_SHOWN = 20
"""Most lists that are shown."""


@dataclass(frozen=True)
class ScoredItem:
    """An item of a list.

    Attributes:
        item: Item token.
        title: Its title; None if it has none, or titles were not asked for.
        score: Higher is better; what it measures depends on the list's source.
    """

    item: str
    title: str | None
    score: float


@dataclass(frozen=True)
class ItemList(Sequence[ScoredItem]):
    """Items, best first.

    Attributes:
        items: The items.
        source: Where they come from: ``model``; ``popularity`` if nothing is known about a user; ``texts`` for
            neighbours by the embeddings of texts; ``titles`` for items found by their titles.
    """

    items: tuple[ScoredItem, ...]
    source: str = MODEL

    @overload
    def __getitem__(self, place: int) -> ScoredItem: ...
    @overload
    def __getitem__(self, place: slice) -> ItemList: ...
    def __getitem__(self, place: int | slice) -> ScoredItem | ItemList:
        """Return an item, or a list of the same source."""
        return self.items[place] if isinstance(place, int) else ItemList(self.items[place], self.source)

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[tuple[int, str, str | None, float]]:
        """Yield (rank from 1, item, title, score)."""
        for rank, one in enumerate(self.items, 1):
            yield rank, one.item, one.title, one.score

    def to_pandas(self) -> Any:
        """Return a data frame with the columns rank, item, title, score and source."""
        return _frame(("rank", "item", "title", "score", "source"), ((*row, self.source) for row in self.rows()))

    def __repr__(self) -> str:
        return f"{len(self)} items ({self.source})\n{_lines(_columns(self.rows()))}"

    def _repr_html_(self) -> str:
        return _table(("", "item", "title", "score"), _columns(self.rows()), f"{len(self)} items ({self.source})")


@dataclass(frozen=True)
class Recommendations(Sequence[ItemList]):
    """One list per history or user, in the order in which they were asked for.

    Attributes:
        lists: The lists.
        users: User tokens, if users were asked for.
        skipped: Unknown items that were left out of the histories.
    """

    lists: tuple[ItemList, ...]
    users: tuple[str, ...] | None = None
    skipped: int = 0

    @overload
    def __getitem__(self, place: int) -> ItemList: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[ItemList]: ...
    def __getitem__(self, place: int | slice) -> ItemList | Sequence[ItemList]:
        """Return the list of a history, or several."""
        return self.lists[place]

    def __len__(self) -> int:
        return len(self.lists)

    def to_pandas(self) -> Any:
        """Return a data frame with a row per item: user (or number of the history), rank, item, title, score, source.

        The first column is named ``user`` or ``history``.
        """
        names: Sequence[Any] = range(len(self)) if self.users is None else self.users
        first = "history" if self.users is None else "user"
        rows = ((name, *row, one.source) for name, one in zip(names, self.lists, strict=True) for row in one.rows())
        return _frame((first, "rank", "item", "title", "score", "source"), rows)

    def __repr__(self) -> str:
        parts = [f"{name}: {one!r}" for name, one in zip(self._names(), self.lists[:_SHOWN], strict=False)]
        return "\n".join([self._about(), *parts, *(["..."] if len(self) > _SHOWN else [])])

    def _repr_html_(self) -> str:
        parts = [
            f"<p><b>{html.escape(name)}</b></p>{one._repr_html_()}"
            for name, one in zip(self._names(), self.lists[:_SHOWN], strict=False)
        ]
        return "".join([f"<p>{self._about()}</p>", *parts, *(["<p>…</p>"] if len(self) > _SHOWN else [])])

    def _names(self) -> Iterator[str]:
        return (f"history {number}" for number in range(len(self))) if self.users is None else iter(self.users)

    def _about(self) -> str:
        skipped = f", {self.skipped} unknown item(s) skipped" if self.skipped else ""
        one, many = ("history", "histories") if self.users is None else ("user", "users")
        return f"{len(self)} {one if len(self) == 1 else many}{skipped}"


@dataclass(frozen=True)
class CodeMeaning:
    """What a code stands for at its place in a path: the items whose paths begin with the codes up to here.

    Attributes:
        code: Its token, e.g. ``<b_201>``.
        words: The words that best tell these items from others that share the preceding codes, most telling first.
        examples: Titles of up to three of these items, the most frequent ones in training.
        items: How many these items are.
    """

    code: str
    words: tuple[str, ...]
    examples: tuple[str, ...]
    items: int

    def __str__(self) -> str:
        examples = "; ".join(self.examples)
        return f"{self.code} {', '.join(self.words) or '-'} ({self.items} items{': ' if examples else ''}{examples})"


@dataclass(frozen=True)
class Step:
    """One code of an item's path and the best other code in its place.

    Attributes:
        meaning: What the code stands for.
        log_prob: Its log-probability after the history and the preceding codes.
        alternative: The likeliest other code with which a path continues here; None if there is none.
        alternative_log_prob: Its log-probability; greater than ``log_prob`` if the item's code was not the likeliest.
    """

    meaning: CodeMeaning
    log_prob: float
    alternative: CodeMeaning | None = None
    alternative_log_prob: float | None = None


@dataclass(frozen=True)
class Influence:
    """The effect of an item of the history on the score.

    Attributes:
        item: Item token.
        title: Its title; None if it has none.
        score_without: The score after the history without it; None for the only item of a history.
        change: The score minus ``score_without``: positive if the item speaks for the recommendation.
    """

    item: str
    title: str | None
    score_without: float | None
    change: float | None


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score after a history.

    Attributes:
        item: Item token.
        title: Its title; None if it has none.
        score: Its score after the whole history.
        steps: The codes of its path; none for models that do not generate paths.
        influences: The effect of each item of the history on the score, oldest first.
    """

    item: str
    title: str | None
    score: float
    steps: tuple[Step, ...] = ()
    influences: tuple[Influence, ...] = field(default=())

    def to_pandas(self) -> Any:
        """Return a data frame of the influences: item, title, score_without and change."""
        columns = ("item", "title", "score_without", "change")
        return _frame(columns, ((one.item, one.title, one.score_without, one.change) for one in self.influences))

    def __repr__(self) -> str:
        parts = [f"{self._about()}"]
        if self.steps:
            parts += ["Its codes:", _lines(self._step_rows())]
        return "\n".join([*parts, "Without an item of the history:", _lines(self._influence_rows())])

    def _repr_html_(self) -> str:
        steps = ("log-prob.", "code", "beaten log-prob.", "best other code")
        html_steps = _table(steps, self._step_rows(), "Its codes") if self.steps else ""
        columns = ("item", "title", "score without it", "change")
        influences = _table(columns, self._influence_rows(), "Without an item of the history")
        return f"<p>{html.escape(self._about())}</p>{html_steps}{influences}"

    def _about(self) -> str:
        return f"{self.item}{f' {self.title}' if self.title else ''}: score {self.score:.4f}"

    def _step_rows(self) -> list[tuple[str, ...]]:
        return [
            (
                f"{one.log_prob:.3f}",
                str(one.meaning),
                _number(one.alternative_log_prob, 3),
                str(one.alternative or "-"),
            )
            for one in self.steps
        ]

    def _influence_rows(self) -> list[tuple[str, ...]]:
        return [
            (one.item, one.title or "", _number(one.score_without, 4), _number(one.change, 4, sign=True))
            for one in self.influences
        ]


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _columns(rows: Iterable[tuple[int, str, str | None, float]]) -> list[tuple[str, ...]]:
    return [(str(rank), item, title or "", f"{score:.4f}") for rank, item, title, score in rows]


def _lines(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of texts as aligned columns, long texts cut."""
    cut = [[clipped(text, 60) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    return "\n".join("  " + "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in cut)


def _table(head: Sequence[str], rows: Iterable[tuple[str, ...]], caption: str) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
    )


def _frame(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Any:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns))
