"""A recommender without a model: what it recommends is a function of the history, so that it can be checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from recbole_lcrec.recommending.lists import (
    CodeMeaning,
    Explanation,
    Influence,
    ItemList,
    Recommendations,
    ScoredItem,
    Step,
)
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError

ITEMS = [f"i{number}" for number in range(40)]


class FakeRecommender:
    """Answers in ``seconds`` per call, however many histories it gets; notes the size of every call.

    Without ``reads_histories`` it is like BPR: it has paths, but knows users of the data set alone.
    """

    def __init__(self, seconds: float = 0.0, reads_histories: bool = True) -> None:
        self.reads_histories = reads_histories
        self.seconds, self.calls, self.threads = seconds, list[int](), set[str]()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def _work(self, questions: int) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(questions)
        self.may_go_on.wait(10)
        time.sleep(self.seconds)

    model_name, dataset_name, has_paths = "Fake", "none", True

    def known_users(self, users: Sequence[str]) -> list[str]:
        for user in users:
            self.history_of(user)
        return list(users)

    def recommend_users(self, users: Sequence[str], k: int = 10) -> Recommendations:
        return self.recommend([self.history_of(user) for user in users], k)

    def known_parts(self, histories: Any, unknown: str = "error") -> tuple[list[list[str]], int]:
        asked = arguments.item_lists("recommend: histories", histories, may_be_empty=True)
        if any(asked) and not self.reads_histories:
            raise UserError("recommend: Fake scores users of the data set and has no use for histories.")
        if unknown not in ("error", "skip"):
            raise UserError(f"recommend: unknown: expected error or skip, found {unknown!r}.")
        kept = [[item for item in history if item in ITEMS] for history in asked]
        skipped = sum(map(len, asked)) - sum(map(len, kept))
        if skipped and unknown == "error":
            raise UserError(f"recommend: {skipped} item(s) of the histories are not known to the model.")
        return kept, skipped

    def recommend(self, histories: Sequence[Sequence[str]], k: int = 10) -> Recommendations:
        self._work(len(histories))
        return Recommendations(tuple(expected(history, k) for history in histories))

    def search(self, text: str, k: int = 10, *, history: Sequence[str] | None = None) -> ItemList:
        self._work(1)
        if text == "break":
            raise RuntimeError("a mistake of ours")
        return ItemList(tuple(scored(item, 0.5) for item in ITEMS[:k]))

    def similar_items(self, item: str, k: int = 10) -> ItemList:
        self._work(1)
        return expected([item], k)

    def explain(self, history: Sequence[str], item: str) -> Explanation:
        self._work(1)
        meaning = CodeMeaning("<a_1>", ("red", "saw"), ("<i>Red</i> saw",), 3)
        influences = tuple(Influence(one, f"Title of <b>{one}</b>", None, -0.5) for one in history)
        return Explanation(item, None, 0.25, (Step(meaning, -0.5, None, float("-inf")),), influences)

    def title_of(self, item: str) -> str | None:
        return f"Title of <b>{item}</b>"

    def path_of(self, item: str) -> tuple[str, ...]:
        return ("<a_1>", f"<b_{item[1:]}>")

    def history_of(self, user: str) -> tuple[str, ...]:
        if user != "u1":
            raise UserError(f"user '{user}' is not in the data set.")
        return ("i3", "i4")

    def find_items(self, words: str, limit: int = 20) -> ItemList:
        return ItemList(tuple(scored(item, 0.0) for item in ITEMS if words in item)[:limit], "titles")


def scored(item: str, score: float) -> ScoredItem:
    return ScoredItem(item, f"Title of <b>{item}</b>", score)


def expected(history: Sequence[str], k: int) -> ItemList:
    """Return what the fake recommends."""
    first = sum(ITEMS.index(item) for item in history)
    return ItemList(tuple(scored(ITEMS[(first + place) % len(ITEMS)], -float(place)) for place in range(k)))
