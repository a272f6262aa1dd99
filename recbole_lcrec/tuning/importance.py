"""How much each option mattered: permutation importance in a random forest (Breiman 2001).

A forest learns the best validation score of a trial from its options. An option's importance is how much of the
explained variance (R squared) is lost on average when its column is shuffled; shares sum to 1. The forest's R squared
on trials that a tree did not see (out of bag) says how far to trust it: below about 0, nothing was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_lcrec.tuning.space import Space

LEAST_TRIALS = 8
_TREES, _REPEATS = 200, 20


@dataclass(frozen=True)
class Importance:
    """What the forest found.

    Attributes:
        shares: Option -> its share of all importance, largest first; all 0 if nothing matters.
        trusted: R squared of the forest on trials that its trees did not see; 1 is perfect, 0 no better than the mean.
        trials: How many trials it learned from.
    """

    shares: dict[str, float]
    trusted: float
    trials: int


def least_trials(space: Space) -> int:
    """Return how many trials with a score an estimate needs: three per option, at least eight."""
    return max(LEAST_TRIALS, 3 * len(space.names))


def importance_of(
    space: Space, values: Sequence[dict[str, Any]], scores: Sequence[float], seed: int
) -> Importance | None:
    """Return the importance of every option, or None if there are too few trials or all scores are equal.

    Args:
        space: What was varied.
        values: Configurations of trials with a score.
        scores: Their best validation scores.
        seed: Of the forest and of the shuffling.
    """
    if len(scores) < least_trials(space) or len(set(scores)) < 2:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table, owner = _columns(space, values)
    target = np.array(scores, dtype=np.float64)
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, oob_score=True, random_state=seed, n_jobs=1)
    forest.fit(table, target)
    found = permutation_importance(forest, table, target, n_repeats=_REPEATS, random_state=seed, n_jobs=1)
    means = np.maximum(found.importances_mean, 0.0)
    summed = {
        name: float(means[[place for place, own in enumerate(owner) if own == name]].sum()) for name in space.names
    }
    total = sum(summed.values()) or 1.0
    ordered = sorted(summed, key=lambda name: (-summed[name], name))
    return Importance({name: summed[name] / total for name in ordered}, float(forest.oob_score_), len(scores))


def _columns(space: Space, values: Sequence[dict[str, Any]]) -> tuple[np.ndarray, list[str]]:
    """Return the options as numbers, [trials, columns], and the option of each column.

    A choice of anything but numbers is one column per value; an option that does not count stands below all values.
    """
    columns, owner = [], []
    for dimension in space.dimensions:
        if dimension.kind == "choice" and not dimension.is_numeric:
            for value in dimension.values:
                columns.append([float(one.get(dimension.name) == value and dimension.name in one) for one in values])
                owner.append(dimension.name)
            continue
        known = [dimension.position(one[dimension.name]) for one in values if dimension.name in one]
        below = min(known, default=0.0) - 1.0
        columns.append([dimension.position(o[dimension.name]) if dimension.name in o else below for o in values])
        owner.append(dimension.name)
    return np.array(columns, dtype=np.float64).T, owner
