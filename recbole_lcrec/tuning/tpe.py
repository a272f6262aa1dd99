"""Hyperopt behind Ray's searcher: a space of ours in, named configurations out, the same again after a resume.

A resume asks and tells hyperopt everything that the journal holds, in the same order, and so brings it into the state
it was in.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from recbole_lcrec.errors import UserError
from recbole_lcrec.tuning.distributions import Dimension
from recbole_lcrec.tuning.journal import FAILED, OVER, Journal
from recbole_lcrec.tuning.space import Space


def check_hyperopt(space: Space) -> None:
    """Refuse hyperopt where it is not installed, and options with several conditions.

    Raises:
        UserError: With what to do.
    """
    if importlib.util.find_spec("hyperopt") is None:
        raise UserError(
            'search_alg hyperopt needs the package hyperopt, which is not installed. Install it: pip install "'
            'recbole-lcrec[hyperopt]" (or pip install hyperopt).'
        )
    several = [dimension.name for dimension in space.dimensions if len(dimension.when) > 1]
    if several:
        raise UserError(
            f"{space.source}: search_alg hyperopt takes one condition per option, but {', '.join(several)} has "
            "several (when). Use search_alg random, or leave one."
        )


class NativeSpace:
    """A space in hyperopt's own form: options that depend on a value stand in the branch of that value."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._shared: dict[str, Any] = {}
        self.tree = {d.name: self._expression(d) for d in space.dimensions if not d.when}

    def _children(self, name: str) -> list[Dimension]:
        return [d for d in self._space.dimensions if d.when and d.when[0][0] == name]

    def _expression(self, dimension: Dimension) -> Any:
        from hyperopt import hp  # type: ignore[import-not-found,unused-ignore]

        name, points, children = dimension.name, dimension.points(), self._children(dimension.name)
        if name in self._shared:  # an option that counts for several values is one variable
            return self._shared[name]
        if points is None:
            low, high = dimension.values
            logarithmic = dimension.kind == "loguniform"
            made = hp.loguniform(name, math.log(low), math.log(high)) if logarithmic else hp.uniform(name, low, high)
        elif children or dimension.kind == "choice":
            branches = []
            for place, value in enumerate(points):
                inside = {c.name: self._expression(c) for c in children if value in c.when[0][1]}
                branches.append({"place": place, "inside": inside})
            made = hp.choice(name, branches)
        else:
            made = hp.randint(name, len(points))
        self._shared[name] = made
        return made

    def values(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration that a suggestion of hyperopt means, in the order of the space."""
        found: dict[str, Any] = {}
        waiting = [suggested]
        while waiting:
            for name, value in waiting.pop().items():
                dimension = self._space[name]
                points = dimension.points()
                if points is None:
                    found[name] = dimension.clean(float(value))
                elif isinstance(value, Mapping):
                    found[name] = points[int(value["place"])]
                    waiting.append(value["inside"])
                else:
                    found[name] = points[int(value)]
        return self._space.active(found)


def make_searcher(space: Space, journal: Journal, *, number: int, bigger: bool, seed: int) -> Any:
    """Return Ray's searcher.

    Args:
        space: What is varied.
        journal: What happened so far; trials that are not over are suggested first, again.
        number: Trials of the whole search.
        bigger: Whether a greater score is better.
        seed: Of hyperopt.
    """
    from ray.tune.search import Searcher
    from ray.tune.search.hyperopt import HyperOptSearch

    native = NativeSpace(space)
    mode = "max" if bigger else "min"
    # hyperopt's 20 random configurations at the start would be a whole small search
    initial = max(3, min(20, number // 4))
    inner = HyperOptSearch(
        native.tree, metric="best_score", mode=mode, random_state_seed=seed, n_initial_points=initial
    )

    class NamedSearch(Searcher):
        """Suggests {name, values}; tells hyperopt what became of them."""

        def __init__(self) -> None:
            super().__init__(metric="best_score", mode=mode)
            self._names: dict[str, str] = {}
            self._again = [trial for trial in journal.trials.values() if trial.status not in OVER]
            self._count = 0
            self._replay()

        def __reduce__(self) -> Any:
            return Searcher, ()  # Ray pickles what it is given for a resume of its own; the journal is ours

        def save(self, checkpoint_path: str) -> None:
            """Do nothing: a resume goes by the journal."""

        def restore(self, checkpoint_path: str) -> None:
            """Do nothing: a resume goes by the journal."""

        def _replay(self) -> None:
            best: dict[str, float] = {}
            for event in list(journal.events):
                name = event["trial"]
                if event["event"] == "planned":
                    self._ask(name)
                elif event["event"] == "reported":
                    better = max if bigger else min
                    best[name] = better(best.get(name, event["score"]), event["score"])
                elif event["event"] == "ended" and event["status"] in OVER:
                    self._tell(name, None if event["status"] == FAILED else best.get(name))

        def _ask(self, name: str) -> dict[str, Any]:
            self._count += 1
            return native.values(inner.suggest(name) or {})

        def _tell(self, name: str, score: float | None) -> None:
            if score is None:
                inner.on_trial_complete(name, error=True)
            else:
                inner.on_trial_complete(name, {"best_score": score})

        def suggest(self, trial_id: str) -> Any:
            """Return the next configuration."""
            if self._again:
                trial = self._again.pop(0)
                name, values = trial.name, trial.values
            elif self._count >= number:
                return Searcher.FINISHED
            else:
                name = f"t{self._count + 1:04d}"
                values = self._ask(name)
                journal.write("planned", name, values=values)
            self._names[trial_id] = name
            return {"trial": {"name": name, "values": values}}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Tell hyperopt the best score; a failed trial has none."""
            failed = error or not result or "failed" in result
            record = journal.trials.get(self._names[trial_id])
            best = record.best(bigger) if record else None
            self._tell(self._names[trial_id], None if failed or best is None else best["score"])

    return NamedSearch()
