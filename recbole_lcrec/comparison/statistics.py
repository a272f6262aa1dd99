"""Are two models different, or is it the draw of the users? Paired tests per user, corrected for many pairs.

The unit is the user: every model ranked the same targets, so their values are compared user by user. Runs with several
seeds are averaged per user first. What is tested is whether *these trained models* differ on users such as these; how
much a training with another seed differs is the spread over seeds, which stands next to it in the leaderboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 10_000
LEVEL = 0.05
"""Family-wise error: the chance that any of the pairs is called different although no pair differs."""


@dataclass(frozen=True)
class PairTest:
    """A pair of models on one metric.

    Attributes:
        metric: Such as ndcg@10.
        first: Label of the model that the difference favours if it is positive.
        second: The other.
        users: Users that both were tested on.
        difference: Mean of first minus second over users.
        low: Lower end of the 95% percentile interval of the paired bootstrap; ``high`` the upper end.
        p: Two-sided p of the paired t-test; ``p_holm`` is corrected for all pairs of the metric.
    """

    metric: str
    first: str
    second: str
    users: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below the level."""
        return self.p_holm < LEVEL


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm (1979): the i-th smallest of m times (m - i + 1), never below an earlier one.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def paired_p(differences: np.ndarray) -> float:
    """Return the two-sided p of the paired t-test, 1 if no user differs or there is only one user."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    if np.ptp(differences) == 0:  # every user differs by the same: the test statistic is infinite
        return 0.0
    return float(stats.ttest_rel(differences, np.zeros_like(differences)).pvalue)


def bootstrap_intervals(
    differences: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return percentile intervals of the mean of each column; all columns see the same resampled users.

    Args:
        differences: Per-user differences, float64 [users, pairs].
        resamples: How often users are drawn with replacement.
        seed: Of the draws.
        level: Share of the resampled means inside.

    Returns:
        Lower and upper ends, each float64 [pairs].
    """
    users = len(differences)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, differences.shape[1]))
    for row in range(resamples):
        means[row] = np.bincount(rng.integers(users, size=users), minlength=users) @ differences
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means / users, [tail, 1.0 - tail], axis=0)
    return low, high


def compare_pairs(values: pd.DataFrame, metric: str, *, resamples: int = RESAMPLES) -> list[PairTest]:
    """Test every pair of models.

    Args:
        values: Per-user values, users x labels; a user that a model lacks (nan) is left out for all.
        metric: Its name.
        resamples: Of the bootstrap.
    """
    values = values.dropna()
    pairs = list(combinations(values.columns, 2))
    if not pairs or values.empty:
        return []
    differences = np.stack([(values[a] - values[b]).to_numpy(np.float64) for a, b in pairs], axis=1)
    low, high = bootstrap_intervals(differences, resamples=resamples)
    p = [paired_p(column) for column in differences.T]
    return [
        PairTest(metric, first, second, len(values), float(differences[:, i].mean()), float(low[i]), float(high[i]),
                 p[i], corrected)
        for i, ((first, second), corrected) in enumerate(zip(pairs, holm(p), strict=True))
    ]  # fmt: skip
