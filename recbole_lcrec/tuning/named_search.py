"""Ray's searcher that names the trials and goes by our journal. Importing this imports Ray."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from recbole_lcrec.tuning.journal import FAILED, OVER, Journal
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.tuning.tpe import NativeSpace


class NamedSearch(Searcher):
    """Suggests {name, values}; tells hyperopt what became of them.

    Args:
        native: The space in hyperopt's form.
        inner: Ray's searcher around hyperopt.
        journal: What happened so far; trials that are not over are suggested again, first.
        number: Number of trials in the whole search.
        bigger: Whether a greater score is better.
    """

    def __init__(self, native: NativeSpace, inner: Any, journal: Journal, *, number: int, bigger: bool) -> None:
        super().__init__(metric="best_score", mode="max" if bigger else "min")
        self._native, self._inner, self._journal, self._number, self._bigger = native, inner, journal, number, bigger
        self._names: dict[str, str] = {}
        self._again = [trial for trial in self._journal.trials.values() if trial.status not in OVER]
        self._count = 0
        self._replay()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles what it is given for Tuner.restore; a search is restored from the journal

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resume uses the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a resume uses the journal."""

    def _replay(self) -> None:
        best: dict[str, float] = {}
        for event in list(self._journal.events):
            name = event["trial"]
            if event["event"] == "planned":
                self._ask(name)
            elif event["event"] == "reported":
                better = max if self._bigger else min
                best[name] = better(best.get(name, event["score"]), event["score"])
            elif event["event"] == "ended" and event["status"] in OVER:
                self._tell(name, None if event["status"] == FAILED else best.get(name))

    def _ask(self, name: str) -> dict[str, Any]:
        self._count += 1
        return self._native.values(self._inner.suggest(name) or {})

    def _tell(self, name: str, score: float | None) -> None:
        if score is None:
            self._inner.on_trial_complete(name, error=True)
        else:
            self._inner.on_trial_complete(name, {"best_score": score})

    def suggest(self, trial_id: str) -> Any:
        """Return the next configuration."""
        if self._again:
            trial = self._again.pop(0)
            name, values = trial.name, trial.values
        elif self._count >= self._number:
            return Searcher.FINISHED
        else:
            name = f"t{self._count + 1:04d}"
            values = self._ask(name)
            self._journal.write("planned", name, values=values)
        self._names[trial_id] = name
        return {"trial": {"name": name, "values": values}}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Tell hyperopt the best score; a failed trial has none."""
        failed = error or not result or "failed" in result
        record = self._journal.trials.get(self._names[trial_id])
        best = record.best(self._bigger) if record else None
        self._tell(self._names[trial_id], None if failed or best is None else best["score"])


def make_searcher(space: Space, journal: Journal, *, number: int, bigger: bool, seed: int) -> Any:
    """Return Ray's searcher.

    Args:
        space: What is varied.
        journal: What happened so far; trials that are not over are suggested again, first.
        number: Number of trials in the whole search.
        bigger: Whether a greater score is better.
        seed: Of hyperopt.
    """
    from ray.tune.search.hyperopt import HyperOptSearch

    native = NativeSpace(space)
    mode = "max" if bigger else "min"
    # hyperopt's 20 random configurations at the start would be a whole small search
    initial = max(3, min(20, number // 4))
    inner = HyperOptSearch(
        native.tree, metric="best_score", mode=mode, random_state_seed=seed, n_initial_points=initial
    )
    return NamedSearch(native, inner, journal, number=number, bigger=bigger)
