"""Users to look at: what they had, what came next, and what models recommended instead.

These are some users drawn at random, the same on every page about the same test (:func:`drawn`), and in a comparison
those about whom the models disagree most. The lists are those of ``ranks.csv.gz``, so nothing is computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.data.text import item_titles
from recbole_lcrec.evaluation.groups import COLD_TARGET, COLD_USER, groups
from recbole_lcrec.utils.errors import UserError, clipped

logger = logging.getLogger(__name__)

DRAWN, SHOWN, RECENT = 60, 10, 20
"""Users drawn at random; places of each list and items of each history that are shown."""
SEED = 2020
_LETTERS = 90


@dataclass(frozen=True)
class Chosen:
    """The users to show; all columns have the same length.

    Attributes:
        users: Their tokens.
        targets: Tokens of the items that came next.
        lengths: How many interactions each had before the test.
        popularity: Training interactions of each target.
        groups: (group by length, group by popularity) of each, by the bounds of all test users.
        names: The names of those groups in order, for each of the two groupings.
        histories: What each had before the test, item tokens, oldest first.
        titles: Item token -> title, if there is one.
    """

    users: Sequence[str]
    targets: Sequence[str]
    lengths: Sequence[int]
    popularity: Sequence[int]
    groups: Sequence[tuple[str, str]]
    names: tuple[list[str], list[str]]
    histories: Sequence[Sequence[str]]
    titles: Mapping[str, str]

    def choices(self) -> list[list[tuple[str, str]]]:
        """Return the (value, text) pairs of the two filters by group."""
        return [[(name, name) for name in names] for names in self.names]


@dataclass(frozen=True)
class Lists:
    """What one model recommended to the shown users.

    Attributes:
        model: Its name on the page.
        ranks: Ranks of the targets from 1.
        censored: Whether the true rank may be greater.
        top: Recommended item tokens, best first; "" in empty places.
        tint: Its colour on the page, "" for none.
    """

    model: str
    ranks: Sequence[int]
    censored: Sequence[bool]
    top: Sequence[Sequence[str]]
    tint: str = ""


def drawn(users: Sequence[str] | np.ndarray, items: Sequence[str] | np.ndarray, count: int = DRAWN) -> np.ndarray:
    """Return randomly drawn rows, independent of the order of the rows and of any option.

    Args:
        users: User token of each row, [n].
        items: Token of the target of each row, [n].
        count: How many; all if there are fewer.

    Returns:
        Rows in the order of their tokens, int64.
    """
    order = np.lexsort((np.asarray(items, str), np.asarray(users, str)))
    count = min(count, len(order))
    return order[np.sort(np.random.default_rng(SEED).choice(len(order), count, replace=False))]


def group_names(
    lengths: np.ndarray, popularity: np.ndarray
) -> tuple[list[tuple[str, str]], tuple[list[str], list[str]]]:
    """Return the groups of all test users: (by length, by popularity) per row, and the names in order."""
    columns, names = [], []
    for found in (groups(lengths, cold=COLD_USER), groups(popularity, cold=COLD_TARGET)):
        column = np.full(len(lengths), "", dtype=object)
        for name, inside in found:
            column[inside] = name
        columns.append(column)
        names.append([name for name, _ in found])
    return list(zip(columns[0].tolist(), columns[1].tolist(), strict=True)), (names[0], names[1])


def histories(data: Any, test: Any, users: Collection[str]) -> dict[str, list[str]]:
    """Return what users had before the test: all of it, oldest first; with a ready split, what its rows hold.

    Args:
        data: The whole dataset after its split was built.
        test: The dataset of the test phase.
        users: User tokens.

    Returns:
        User token -> item tokens.
    """
    ids = np.array([data.field2token_id[data.uid_field][user] for user in users], np.int64)
    of_test = test.inter_feat[test.uid_field].numpy()
    if RunOptions(data.config).benchmark_filename is not None:
        lists = test.inter_feat[test.iid_field + RunOptions(test.config).list_suffix].numpy()
        first = {user: row for row, user in reversed(list(enumerate(of_test.tolist())))}
        found = {user: lists[first[user]] for user in ids.tolist()}
    else:
        keep = torch.from_numpy(np.isin(data.inter_feat[data.uid_field].numpy(), ids))
        whole = _sequences(data.copy(data.inter_feat[keep]))
        later = np.bincount(of_test, minlength=data.user_num)  # the test takes the end of a sequence
        found = {user: whole[user][: len(whole[user]) - later[user]] for user in ids.tolist()}
    tokens = data.field2id_token[data.iid_field]
    sequences = (found[user] for user in ids.tolist())
    return {user: [str(token) for token in tokens[row[row > 0]]] for user, row in zip(users, sequences, strict=True)}


def titles(data: Any, items: Collection[str]) -> dict[str, str]:
    """Return item token -> title for the items that have one; none if titles cannot be read.

    Args:
        data: The whole dataset.
        items: Item tokens.
    """
    try:
        return item_titles(DataFiles.of(data), items, data.config["item_text_fields"])
    except UserError as error:
        logger.warning("The report shows item tokens in place of titles: %s", error)
        return {}


def _sequences(data: Any) -> dict[int, np.ndarray]:
    if isinstance(data, SequentialDataset):
        return training_sequences(data)
    users, items = data.inter_feat[data.uid_field].numpy(), data.inter_feat[data.iid_field].numpy()
    return {int(user): items[users == user] for user in np.unique(users)}


def page_rows(chosen: Chosen, models: Sequence[Lists], kinds: Sequence[str] = (), spread: Sequence[float] = ()) -> Any:
    """Return what templates/users.html shows about each user.

    Args:
        chosen: The users.
        models: The lists of each model.
        kinds: Why each user is here, separated by blanks, for the filter; () for one reason.
        spread: How far the models disagree about each; () for a single model.
    """
    rows = []
    for place, (user, target) in enumerate(zip(chosen.users, chosen.targets, strict=True)):
        history = chosen.histories[place]
        answers = [_answer(one, place, target, frozenset(history), chosen.titles) for one in models]
        hits = sum(answer["found"] for answer in answers)
        rows.append(
            {
                "user": user,
                "target": target,
                "title": _title(target, chosen.titles),
                "again": target in history,
                "length": chosen.lengths[place],
                "popularity": chosen.popularity[place],
                "groups": chosen.groups[place],
                "history": [_title(item, chosen.titles) for item in history[-RECENT:]],
                "answers": answers,
                "places": max((len(answer["items"]) for answer in answers), default=0),
                "hits": "all" if hits == len(answers) else "some" if hits else "none",
                "kinds": kinds[place] if kinds else "drawn",
                "spread": spread[place] if spread else None,
            }
        )
    return rows


def _answer(
    lists: Lists, place: int, target: str, history: Collection[str], titles: Mapping[str, str]
) -> dict[str, Any]:
    top = [item for item in lists.top[place] if item]
    items = [
        {"title": _title(item, titles), "item": item, "hit": item == target, "again": item in history}
        for item in top[:SHOWN]
    ]
    rank = f"{lists.ranks[place]:,}"
    return {
        "model": lists.model,
        "tint": lists.tint,
        "rank": f"{rank} or beyond" if lists.censored[place] else rank,
        "found": target in top,
        "items": items,
    }


def _title(item: str, titles: Mapping[str, str]) -> str:
    return clipped(titles.get(item, ""), _LETTERS) or item
