"""Users to look at in a comparison: their data, loaded once when all runs have ended, and the lists of every model.

The runs leave lists and ranks in tokens; the users' earlier items and the items' titles are read from the data set, of
which the runs need no copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult, common_seeds, of_seed, ranked
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.data.seen import SeenItems, seen_before
from recbole_lcrec.data.split import split_sha256
from recbole_lcrec.evaluation import users
from recbole_lcrec.experiment.split_loaders import split_of
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.utils.timer import StageTimer

APART = 40
"""Number of users that are shown because the models disagree most about them."""


@dataclass(frozen=True)
class TestData:
    """The data of the runs.

    Attributes:
        data: The whole dataset after its split was built.
        parts: The datasets of training, validation and test.
    """

    __test__ = False  # not one of pytest's
    data: Any
    parts: Sequence[Any]

    @cached_property
    def _seen(self) -> SeenItems:
        return seen_before("test", self.parts)

    def had(self, users: pd.Series, items: np.ndarray) -> np.ndarray:
        """Return which items their users had had before the test, bool [n, K].

        Args:
            users: User tokens, n of them.
            items: Item tokens, [n, K]; "" for none.
        """
        to_user, to_item = (
            pd.Index(self.data.field2id_token[name].astype(str)) for name in (self.data.uid_field, self.data.iid_field)
        )
        ids = np.maximum(to_item.get_indexer(items.ravel()), 0)  # "" is not a token: 0, the padding
        of_user = np.repeat(to_user.get_indexer(users), items.shape[1])
        return self._seen.contains(torch.from_numpy(of_user), torch.from_numpy(ids)).numpy().reshape(items.shape)


def load_test_data(plan: Plan, results: Sequence[ModelResult]) -> TestData | None:
    """Load the data that the runs were tested on; None if no run has ranks.

    Raises:
        UserError: If they cannot be loaded, or are no longer those of the runs.
    """
    tested = {(result.label, run.seed): run for result in results for run in result.runs if run.ranks is not None}
    of_plan = (run for run in plan.runs if (run.entry.label, run.seed) in tested)
    if (first := next(of_plan, None)) is None:
        return None
    with quiet():
        data, parts = split_of(LCRecConfig(cli=first.stages[-1].options), StageTimer())
    expected, found = tested[first.entry.label, first.seed].result["split_sha256"], split_sha256(*parts)
    if found != expected:
        raise UserError(
            f"the data set is not the one that the runs were tested on (split {expected[:12]}, now {found[:12]})"
        )
    return TestData(data, parts)


@dataclass(frozen=True)
class Tables:
    """The ranks of every model with one seed, in the same order of rows.

    Attributes:
        seed: The seed.
        ranks: Label -> rows as in ranks.csv.gz, one per user and target that all models were tested on.
    """

    seed: int
    ranks: Mapping[str, pd.DataFrame]

    def lists(self, label: str, rows: np.ndarray) -> np.ndarray:
        """Return the list of a model in each of some rows, item tokens [rows, K]."""
        table = self.ranks[label]
        return table.loc[:, table.columns.str.startswith("top_")].iloc[rows].fillna("").to_numpy(str)


def aligned(results: Sequence[ModelResult]) -> Tables | None:
    """Return the ranks of all models that have them, with the first seed that they share; None without one."""
    models = ranked(results)
    if not (common := common_seeds(models)):
        return None
    tables = {}
    for result in models:
        table = of_seed(result, common[0])
        tables[result.label] = table.set_index(pd.MultiIndex.from_frame(table[["user", "item"]])).sort_index()
    # a search tests only users who have a query
    shared = reduce(pd.MultiIndex.intersection, (table.index for table in tables.values()))
    return Tables(common[0], {label: table.loc[shared] for label, table in tables.items()})


def disagreement(tables: Tables) -> np.ndarray:
    """Return how far the models disagree about each target: highest minus lowest reciprocal rank, float64 [n].

    The reciprocal rank is 0 if the target is not in a model's list, as ranks beyond it are not known for all models.
    """
    found = []
    for table in tables.ranks.values():
        rank, length = table["rank"].to_numpy(np.float64), table.columns.str.startswith("top_").sum()
        found.append(np.where(rank <= length, 1 / rank, 0.0))
    return np.max(found, axis=0) - np.min(found, axis=0)


def look(
    known: TestData, results: Sequence[ModelResult], tint: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return what the page shows of users; None without models that have ranks of the same seed.

    Args:
        known: The data of the runs.
        results: The models in the order of the page.
        tint: Label -> colour.
        names: Label -> name on the page.
    """
    tables = aligned(results)
    if tables is None:
        return None
    first = next(iter(tables.ranks.values()))
    tokens, targets = first["user"].to_numpy(str), first["item"].to_numpy(str)
    drawn = users.drawn(tokens, targets)
    apart, gap = np.zeros(0, np.int64), np.zeros(len(first))
    if len(tables.ranks) > 1:
        gap = disagreement(tables)
        shuffled = np.random.default_rng(users.SEED).permutation(len(gap))  # ties are not broken by order
        apart = shuffled[np.argsort(-gap[shuffled], kind="stable")][:APART]
        apart = apart[gap[apart] > 0]
    rows = np.concatenate([apart, drawn[~np.isin(drawn, apart)]])
    kinds = [" ".join(kind for kind, those in (("apart", apart), ("drawn", drawn)) if row in those) for row in rows]
    lists = [_lists(tables, label, rows, tint[label], names[label]) for label in tables.ranks]
    chosen = _chosen(known, first, rows, lists)
    several = len(tables.ranks) > 1
    return {
        "rows": users.page_rows(chosen, lists, kinds, gap[rows].tolist() if several else ()),
        "groups": chosen.choices(),
        "kinds": [("drawn", "drawn at random"), ("apart", "most disagreement")] if several else [],
        "drawn": len(drawn),
        "apart": len(apart),
        "total": len(first),
        "seed": tables.seed,
    }


def _lists(tables: Tables, label: str, rows: np.ndarray, tint: str, name: str) -> users.Lists:
    table = tables.ranks[label].iloc[rows]
    censored = table["censored"].astype(bool)
    return users.Lists(name, table["rank"].tolist(), censored.tolist(), tables.lists(label, rows).tolist(), tint)


def _chosen(known: TestData, table: pd.DataFrame, rows: np.ndarray, lists: Sequence[users.Lists]) -> users.Chosen:
    groups, names = users.group_names(table["history"].to_numpy(), table["popularity"].to_numpy())
    shown = table.iloc[rows]
    before = users.histories(known.data, known.parts[2], shown["user"].unique().tolist())
    items = {item for one in lists for top in one.top for item in top}
    items |= {*shown["item"], *(item for history in before.values() for item in history)}
    return users.Chosen(
        shown["user"].tolist(), shown["item"].tolist(), shown["history"].tolist(), shown["popularity"].tolist(),
        [groups[row] for row in rows], names, [before[user] for user in shown["user"]],
        users.titles(known.data, items),
    )  # fmt: skip
