"""Repeats and new items: how much of a comparison is decided by recommending what users had had before.

Where users often come back to an item, a model that puts the history first is right at place 1 and has fewer places
for anything new; one that does not may lose at place 1 and win in the list. So the two kinds of hits are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_lcrec.comparison.results import ModelResult, of_seed, ranked
from recbole_lcrec.comparison.users import TestData


@dataclass(frozen=True)
class ModelRepeats:
    """Shares of one model, means over its seeds; None where there is nothing to take a share of.

    Attributes:
        label: The model.
        first: Of the first places, those with an item that the user had had before.
        places: The same of all places.
        hit_1: Hit@1 on (targets that are repeats, targets that are new).
        hit_k: The same of Hit@K, K the length of the lists.
        among_1: Of the hits at place 1, those that are repeats.
        among_k: Of the hits in the list, those that are repeats.
    """

    label: str
    first: float | None
    places: float | None
    hit_1: tuple[float | None, float | None]
    hit_k: tuple[float | None, float | None]
    among_1: float | None
    among_k: float | None


@dataclass(frozen=True)
class Repeats:
    """How much repeats count.

    Attributes:
        targets: Test targets.
        repeated: How many of them their users had had before the test.
        length: Length of the lists.
        models: The models with ranks.
    """

    targets: int
    repeated: int
    length: int
    models: tuple[ModelRepeats, ...]


def repeats(known: TestData, results: Sequence[ModelResult]) -> Repeats | None:
    """Tell hits on repeats from those on new items; None without ranks.

    Args:
        known: The data of the runs.
        results: The models in the order of the page.
    """
    models = ranked(results)
    if not models:
        return None
    table = of_seed(models[0], models[0].runs[0].seed)
    again = known.had(table["user"], table["item"].to_numpy(str)[:, None])
    length = int(table.columns.str.startswith("top_").sum())
    return Repeats(len(table), int(again.sum()), length, tuple(_of_model(known, result) for result in models))


def _of_model(known: TestData, result: ModelResult) -> ModelRepeats:
    found = np.array([_of_run(known, of_seed(result, run.seed)) for run in result.runs])
    first, places, *hits = (None if np.isnan(column).all() else float(np.nanmean(column)) for column in found.T)
    return ModelRepeats(result.label, first, places, (hits[0], hits[1]), (hits[2], hits[3]), hits[4], hits[5])


def _of_run(known: TestData, table: pd.DataFrame) -> list[float]:
    top = table.loc[:, table.columns.str.startswith("top_")].fillna("").to_numpy(str)
    old = known.had(table["user"], top)
    again = known.had(table["user"], table["item"].to_numpy(str)[:, None])[:, 0]
    ranks = table["rank"].to_numpy()
    hits = [ranks <= k for k in (1, top.shape[1])]
    apart = [_mean(hit[part]) for hit in hits for part in (again, ~again)]
    return [_mean(old[top[:, 0] != "", 0]), _mean(old[top != ""]), *apart, *(_mean(again[hit]) for hit in hits)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan
