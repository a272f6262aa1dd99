"""Where every test user's target was ranked, so that others can test their own statistics.

RecBole keeps only sums. Here each evaluated target leaves one row in ``ranks.csv.gz``: user, target, rank and the list
that was recommended. Memory is that of the rows (a few numbers and the list), never [users, items].

What a rank means: within the first K = max(topk) places it is the target's place in the list that RecBole's metrics
use, so Hit@k, NDCG@k and MRR@k of one target per user, recomputed from the ranks, are RecBole's own for every k <= K,
even with equal scores. Beyond the list, all items with a higher score and half of those with an equal one (rounded
down) come before the target: torch.topk leaves their order open. Generative models score only what their beams hold; a
target beyond is *censored*: its rank is the given number or greater. With ``exclude_history``, a target that the user
has already had is not a candidate: its rank is one more than the number of candidates, and beyond the list, for every
model.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.distributed import group
from recbole_lcrec.utils.files import atomic_path
from recbole_lcrec.utils.novelty import surprise

COLUMNS = ("user", "item", "rank", "censored", "candidates", "history", "popularity", "wording")
"""Columns of the file before the list, ``top_1`` to ``top_K``."""


@dataclass(frozen=True)
class Ranks:
    """One row per evaluated target (and wording of the prompt, where there are several).

    Attributes:
        users: RecBole's user ids, int64 [n].
        targets: RecBole's item ids of the targets, int64 [n].
        ranks: Ranks of the targets from 1, int64 [n].
        censored: Whether the true rank may be greater, bool [n].
        candidates: Number of items among which the target was ranked, int64 [n].
        top: The recommended items, best first, int32 [n, K]; 0 in empty places.
        wording: The prompt's number (several joined by +), "" for models without prompts; n of them.
    """

    users: np.ndarray
    targets: np.ndarray
    ranks: np.ndarray
    censored: np.ndarray
    candidates: np.ndarray
    top: np.ndarray
    wording: tuple[str, ...]


class RankCollector:
    """Takes the ranks from each batch of an evaluation.

    Args:
        length: K, the length of the lists.
        num_beams: Number of items that a generative model scores; None if all are scored.
    """

    def __init__(self, length: int, num_beams: int | None = None) -> None:
        self._length, self._num_beams = length, num_beams
        self._parts: list[tuple[int, int, str, tuple[np.ndarray, ...]]] = []
        self._round, self._wording = 0, ""

    def begin_round(self, number: int, wording: str) -> None:
        """Set which evaluation follows, if there are several (one per wording).

        Args:
            number: Number of the evaluation.
            wording: The prompt's number (several joined by +).
        """
        self._round, self._wording = number, wording

    def add(
        self, users: torch.Tensor, scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, *, batch: int = 0
    ) -> None:
        """Record the ranks of one batch.

        Args:
            users: RecBole's user ids, [B].
            scores: Scores of all items, [B, n_items or more]; -inf for what is not a candidate.
            rows: Row of each target in ``scores``, [T].
            items: The targets, [T].
            batch: Number of the batch in the evaluation.
        """
        rows, items = rows.to(scores.device), items.to(scores.device)
        values, top = torch.topk(scores, self._length, dim=-1)
        top = top.masked_fill(values == -torch.inf, 0)
        candidates = (scores > -torch.inf).sum(dim=1)
        if not torch.equal(rows, torch.arange(len(scores), device=rows.device)):  # otherwise spare a copy
            scores, top, candidates = scores[rows], top[rows], candidates[rows]
        target = scores.gather(1, items[:, None])
        above = (scores > target).sum(dim=1)
        tied = (scores == target).sum(dim=1) - 1
        match = top == items[:, None]
        excluded = target[:, 0] == -torch.inf
        beyond = torch.where(excluded, candidates, above + tied // 2).clamp_min(self._length) + 1
        censored = torch.zeros_like(excluded)
        if self._num_beams is not None:
            censored = (above >= self._num_beams) & ~excluded
            beyond = torch.where(censored, above + 1, beyond)
        ranks = torch.where(match.any(dim=1), match.int().argmax(dim=1) + 1, beyond)
        self._note(batch, users.to(rows.device)[rows], items, ranks, censored, candidates, top)

    def add_top(
        self,
        users: torch.Tensor,
        top: torch.Tensor,
        rows: torch.Tensor,
        items: torch.Tensor,
        candidates: int,
        seen: SeenItems | None = None,
        *,
        batch: int = 0,
    ) -> None:
        """Record the ranks of one batch of which only the best items are known, as from generative models.

        Args:
            users: RecBole's user ids, [B].
            top: Item ids, best first, [B, K or more]; 0 in empty places.
            rows: Row of each target in ``top``, [T].
            items: The targets, [T].
            candidates: Number of items that could have been generated without exclusion.
            seen: Items that were excluded for each user; None for no exclusion.
            batch: Number of the batch in the evaluation.
        """
        rows, items = rows.to(top.device), items.to(top.device)
        users, top = users.to(rows.device)[rows], top[rows]
        match = top == items[:, None]
        censored = ~match.any(dim=1)
        ranks = torch.where(censored, (top > 0).sum(dim=1) + 1, match.int().argmax(dim=1) + 1)
        among = torch.full_like(ranks, candidates)
        if seen is not None:
            among = among - seen.counts(users)
            excluded = seen.contains(users, items)
            ranks = torch.where(excluded, among.clamp_min(self._length) + 1, ranks)
            censored = censored & ~excluded
        self._note(batch, users, items, ranks, censored, among, top[:, : self._length])

    def _note(self, batch: int, *columns: torch.Tensor) -> None:
        users, items, ranks, censored, candidates, top = (column.cpu().numpy() for column in columns)
        rows = (users, items, ranks, censored, candidates, top.astype(np.int32))
        self._parts.append((self._round, batch, self._wording, rows))

    def collected(self) -> Ranks | None:
        """Return everything that was recorded, in order; None if nothing was.

        Of several processes, the main one gets what all have recorded, the others None.
        """
        parts = [part for noted in group.gathered(self._parts) or [] for part in noted]
        if not parts:
            return None
        parts.sort(key=lambda part: part[:2])
        columns = zip(*(rows for *_, rows in parts), strict=True)
        users, targets, ranks, censored, candidates, top = map(np.concatenate, columns)
        wordings = [wording for _, _, wording, rows in parts for _ in rows[0]]
        return Ranks(users, targets, ranks, censored, candidates, top, tuple(wordings))


def item_counts(train: Any) -> np.ndarray:
    """Return the number of training interactions by RecBole's item id, int64 [n_items]; the same for every model.

    RecBole itself counts only targets in sequential datasets, which leaves out everyone's first item.

    Args:
        train: The dataset of the training phase, as built by RecBole.
    """
    from recbole_lcrec.data.split import training_sequences

    if isinstance(train, SequentialDataset):
        items = np.concatenate([np.zeros(0, np.int64), *training_sequences(train).values()])
    else:
        items = train.inter_feat[train.iid_field].numpy()
    return np.bincount(items, minlength=train.item_num)


def history_lengths(data: Any, test: Any) -> np.ndarray:
    """Return how many interactions each user had before the test, int64 by RecBole's user id.

    With a ready split, it is what the rows hold of the history (at most MAX_ITEM_LIST_LENGTH items).

    Args:
        data: The whole dataset after its split was built.
        test: The dataset of the test phase.
    """
    users = test.inter_feat[test.uid_field].numpy()
    if RunOptions(data.config).benchmark_filename is not None:
        lists = test.inter_feat[test.iid_field + RunOptions(test.config).list_suffix].numpy()
        lengths = np.zeros(test.user_num, np.int64)
        np.maximum.at(lengths, users, (lists != 0).sum(axis=1))
        return lengths
    everything = np.bincount(data.inter_feat[data.uid_field].numpy(), minlength=data.user_num)
    first = 1 if isinstance(data, SequentialDataset) else 0  # a sequence's first item is not a sample of its own
    return everything + first - np.bincount(users, minlength=data.user_num)


def write_ranks(path: Path, ranks: Ranks, experiment: Any) -> None:
    """Write the rows in raw tokens as gzipped CSV, whole or not at all; the same ranks give the same bytes.

    Args:
        path: The file.
        ranks: What an evaluation of the test phase collected.
        experiment: The experiment that was evaluated.
    """
    data, train = experiment.dataset, experiment.train_data._dataset
    users, items = (data.field2id_token[field].astype(str) for field in (data.uid_field, data.iid_field))
    counts, histories = item_counts(train), history_lengths(data, experiment.test_data._dataset)
    items[0] = ""  # padding: an empty place of the list
    columns = zip(
        users[ranks.users], items[ranks.targets], ranks.ranks.tolist(), ranks.censored.astype(int).tolist(),
        ranks.candidates.tolist(), histories[ranks.users].tolist(), counts[ranks.targets].tolist(), ranks.wording,
        items[ranks.top], strict=True,
    )  # fmt: skip
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"top_{place + 1}" for place in range(ranks.top.shape[1]))])
        for *row, top in columns:
            writer.writerow([*row, *top])


def beyond_accuracy(ranks: Ranks, counts: np.ndarray) -> dict[str, float]:
    """Return measures of the recommended lists, regardless of whether they are right.

    Args:
        ranks: What an evaluation of the test phase collected.
        counts: Training interactions of each item id, int64 [n_items]; 0 is padding.

    Returns:
        ``coverage@K``: share of the items that are in any list. ``gini@K``: how unevenly the places are distributed
        over items, 0 (all items alike) to 1 (one item takes all). ``popularity@K``: mean training interactions of the
        recommended items. ``novelty@K``: mean of -log2 p(item), where p is the item's share of all training
        interactions (zero counts as one), in bits. RecBole's ItemCoverage and GiniIndex count the padding as an item.
    """
    length, shown = ranks.top.shape[1], ranks.top[ranks.top > 0]
    places = np.sort(np.bincount(shown, minlength=len(counts))[1:])
    n_items, total = len(places), max(int(places.sum()), 1)
    position = np.arange(1, n_items + 1)
    values = {
        "coverage": float((places > 0).mean()),
        "gini": float(((2 * position - n_items - 1) * places).sum() / (n_items * total)),
        "popularity": float(counts[shown].mean()) if len(shown) else 0.0,
        "novelty": float(surprise(counts)[shown].mean()) if len(shown) else 0.0,
    }
    return {f"{name}@{length}": round(value, 6) for name, value in values.items()}
