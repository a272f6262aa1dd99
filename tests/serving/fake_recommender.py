"""A recommender without a model: what it recommends is a function of the history, so that it can be checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.utils.errors import UserError

ITEMS = [f"i{number}" for number in range(40)]


@dataclass(frozen=True)
class Scored:
    item: str
    title: str | None
    score: float


@dataclass(frozen=True)
class Why:
    item: str
    score: float
    odds: tuple[float, ...]


class FakeRecommender:
    """Answers in ``seconds`` per call, however many histories it gets; notes the size of every call."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls, self.threads = seconds, list[int](), set[str]()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def _work(self, questions: int) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(questions)
        self.may_go_on.wait(10)
        time.sleep(self.seconds)

    def about(self) -> dict[str, Any]:
        return {"model": "Fake", "dataset": "none", "items": len(ITEMS), "paths": True}

    def recommend(self, histories: Sequence[Sequence[str]], k: int = 10, **options: Any) -> list[list[Scored]]:
        self._work(len(histories))
        return [expected(history, k) for history in histories]

    def search(self, text: str, k: int = 10, *, history: Sequence[str] | None = None) -> list[Scored]:
        self._work(1)
        if text == "break":
            raise RuntimeError("a mistake of ours")
        return [scored(item, 0.5) for item in ITEMS[:k]]

    def similar_items(self, item: str, k: int = 10) -> list[Scored]:
        self._work(1)
        return expected([item], k)

    def explain(self, history: Sequence[str], item: str) -> Why:
        self._work(1)
        return Why(item, 0.25, (1.0, float("-inf")))

    def title_of(self, item: str) -> str | None:
        return f"Title of <b>{item}</b>"

    def path_of(self, item: str) -> tuple[str, ...]:
        return ("<a_1>", f"<b_{item[1:]}>")

    def history_of(self, user: str) -> tuple[str, ...]:
        if user != "u1":
            raise UserError(f"user '{user}' is not in the data set.")
        return ("i3", "i4")

    def find_items(self, words: str, limit: int = 20) -> list[Scored]:
        return [scored(item, 0.0) for item in ITEMS if words in item][:limit]


def scored(item: str, score: float) -> Scored:
    return Scored(item, f"Title of <b>{item}</b>", score)


def expected(history: Sequence[str], k: int) -> list[Scored]:
    """Return what the fake recommends; it refuses items that it does not have."""
    unknown = [item for item in history if item not in ITEMS]
    if unknown:
        raise UserError(f"recommend: {len(unknown)} item(s) are not in the data set, e.g. {unknown[0]!r}.")
    first = sum(ITEMS.index(item) for item in history)
    return [scored(ITEMS[(first + place) % len(ITEMS)], -float(place)) for place in range(k)]
