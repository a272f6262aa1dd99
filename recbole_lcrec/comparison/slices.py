"""Where models differ: users by the length of their history, targets by popularity, and who finds what others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_lcrec.comparison.results import ModelResult, common_seeds, of_seed, ranked
from recbole_lcrec.evaluation.groups import groups


@dataclass(frozen=True)
class Slice:
    """Users of one bucket.

    Attributes:
        name: The bucket's bounds, such as "19-33".
        users: How many there are.
        mean: Label -> mean of the metric.
        error: Label -> its standard error over users; 0 for a single user.
    """

    name: str
    users: int
    mean: dict[str, float]
    error: dict[str, float]


def slices(values: pd.DataFrame, by: pd.Series, count: int = 5, *, cold: tuple[str, int] | None = None) -> list[Slice]:
    """Group users and average within each group.

    Args:
        values: Per-user values, users x labels.
        by: What to group by, one value per user, of the same index.
        count: Most groups, not counting the cold one.
        cold: Name and highest value of a group of its own; None for none.
    """
    found = groups(by.reindex(values.index).to_numpy(), count, cold=cold)
    return [_slice(name, values[inside]) for name, inside in found]


def _slice(name: str, values: pd.DataFrame) -> Slice:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else values.mean() * 0.0
    return Slice(name, len(values), values.mean().to_dict(), error.to_dict())


@dataclass(frozen=True)
class Overlap:
    """How far models recommend and find the same; means over the seeds that all models have.

    Attributes:
        labels: The models.
        found_too: [i, j]: of the targets that model i has in its list, the share that model j has too; float64.
        lists: [i, j]: share of the places of the lists of i and j that hold the same items; float64.
        alone: Share of users whose target is in the list of this model and of no other, float64 [labels].
        any: Share of users whose target is in some model's list.
        length: Length of the lists.
    """

    labels: tuple[str, ...]
    found_too: np.ndarray
    lists: np.ndarray
    alone: np.ndarray
    any: float
    length: int


def overlap(results: Sequence[ModelResult]) -> Overlap | None:
    """Compare the lists of every pair; None without two models that have ranks of the same seed."""
    models = ranked(results)
    common = common_seeds(models) if len(models) > 1 else []
    if not common:
        return None
    each = [_overlap([of_seed(result, seed) for result in models]) for seed in common]
    found, lists, alone, anyone = (np.mean(np.stack(parts), axis=0) for parts in zip(*each, strict=True))
    length = sum(name.startswith("top_") for name in of_seed(models[0], common[0]).columns)
    return Overlap(tuple(result.label for result in models), found, lists, alone, float(anyone), length)


def _overlap(tables: Sequence[pd.DataFrame]) -> tuple[np.ndarray, ...]:
    keys = [pd.MultiIndex.from_frame(table[["user", "item"]]) for table in tables]
    order = keys[0].sort_values()
    tops = []
    for table, key in zip(tables, keys, strict=True):
        columns = [name for name in table.columns if name.startswith("top_")]
        tops.append(table.set_index(key)[columns].reindex(order).fillna("").to_numpy(str))
    items = order.get_level_values(1).to_numpy(str)
    hits = np.stack([(top == items[:, None]).any(axis=1) for top in tops]).astype(np.float64)
    both = hits @ hits.T
    with np.errstate(invalid="ignore"):
        found = both / both.diagonal()[:, None]  # nan for a model without a hit
    lists = np.array([[_shared(a, b) for b in tops] for a in tops])
    alone = ((hits.sum(axis=0) == 1) * hits).mean(axis=1)
    return found, lists, alone, hits.any(axis=0).mean()


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean share of the places of two lists [users, K] that hold the same items."""
    same = sum((first[:, [place]] == second).any(axis=1) & (first[:, place] != "") for place in range(first.shape[1]))
    return float(np.mean(same / np.maximum((first != "").sum(axis=1), 1)))
