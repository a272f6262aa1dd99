"""What a server can be asked, and how its runs answer it: every call of a model goes through one batcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from recbole_lcrec.serving.batcher import Batcher
from recbole_lcrec.serving.metrics import Metrics
from recbole_lcrec.serving.settings import ServeSettings
from recbole_lcrec.utils.errors import UserError, clipped, nearest

if TYPE_CHECKING:
    from recbole_lcrec.recommending import Recommender

KINDS: dict[str, Callable[..., Sequence[Any]]] = {
    "recommend": lambda run, histories, k: run.recommend(histories, k),
    "recommend_users": lambda run, users, k: run.recommend_users(users, k),
    "search": lambda run, wishes, k: [run.search(text, k, history=history) for text, history in wishes],
    "similar": lambda run, items, k: [run.similar_items(item, k) for item in items],
    "explain": lambda run, pairs: [run.explain(history, item) for history, item in pairs],
}
"""Name -> (run, questions, options) -> an answer to each question."""


class Service:
    """One or two runs behind a batcher.

    Args:
        runs: Name -> run; the first answers requests that name none.
        settings: Options of the server.
    """

    def __init__(self, runs: Mapping[str, Recommender], settings: ServeSettings) -> None:
        self.runs, self.settings = dict(runs), settings
        self.metrics = Metrics(lambda: self._batcher.waiting)
        self._batcher = Batcher(
            self._answer,
            batch=settings.serve_batch,
            wait=settings.serve_wait_ms / 1000,
            room=settings.serve_queue,
            observe=self.metrics.decoded,
        )

    def name(self, asked: Any) -> str:
        """Return the name of the run that a request asks for; the first if it names none.

        Raises:
            UserError: If there is no run of this name.
        """
        if asked is None:
            return next(iter(self.runs))
        if isinstance(asked, str) and asked in self.runs:
            return asked
        raise UserError(
            f"run: {clipped(repr(asked))} is not served; expected {' or '.join(self.runs)}."
            f"{nearest(str(asked), self.runs)}"
        )

    def ask(self, kind: str, run: str, questions: Sequence[Any], *options: Any) -> Future[list[Any]]:
        """Ask questions of one kind (:data:`KINDS`); those with the same kind, run and options share a call.

        Raises:
            Full: If too many are waiting.
        """
        return self._batcher.submit((kind, run, options), questions)

    def close(self) -> None:
        """Answer what is waiting, then take no more."""
        self._batcher.close()

    def _answer(self, key: Any, questions: Sequence[Any]) -> Sequence[Any]:
        kind, run, options = key
        return KINDS[kind](self.runs[run], questions, *options)
