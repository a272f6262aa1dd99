"""What RecBole's evaluator is fed with: its collector, for counts among the values and for top items alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from recbole.evaluator import Collector

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed import group
from recbole_lcrec.evaluation.queries import TopItems
from recbole_lcrec.evaluation.ranks import item_counts

_OF_ALL_SCORES = ("rec.meanrank", "rec.score")
_OF_BATCHES = ("rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label")


class ItemCollector(Collector):
    """RecBole's collector, with three additions.

    It takes the counts among its values as they are (for metrics like ItemCoverage; RecBole treats them as tensors).
    It reads generated items as they are: with a large catalogue, a dense row of scores per user, of which only the
    best are used, costs more than generating the items. And it gathers what several processes have collected, in the
    order of the batches, so that every user is counted once.

    Args:
        config: The experiment's configuration.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._number = 0
        self._batches: list[tuple[int, dict[str, torch.Tensor]]] = []  # of this process, if there are several

    def data_collect(self, train_data: Any) -> None:
        """Collect the facts of the data; an item's popularity is the same for every model (see ``item_counts``)."""
        super().data_collect(train_data)
        if self.register.need("data.count_items"):
            counts = item_counts(train_data._dataset)
            self.data_struct.set("data.count_items", Counter({int(i): int(counts[i]) for i in counts.nonzero()[0]}))

    def begin_batch(self, number: int) -> None:
        """Set which batch of the evaluation is collected next."""
        self._number = number

    def reads_top_items_only(self) -> bool:
        """Return whether the best items suffice for all metrics in use."""
        return not any(self.register.need(name) for name in _OF_ALL_SCORES)

    def eval_batch_collect(
        self, scores_tensor: Any, interaction: Any, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        """Collect a batch.

        Args:
            scores_tensor: Scores [B, n_items], or the users' ``TopItems``.
            interaction: The batch.
            positive_u: Rows of the positive items, int64 [P].
            positive_i: Ids of the positive items, int64 [P].
        """
        if scores_tensor is None:  # a batch of another process
            return
        if isinstance(scores_tensor, TopItems):
            self._collect_top(scores_tensor, interaction, positive_u, positive_i)
        else:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if group.several():
            collected = self.data_struct._data_dict
            found = {key: collected.pop(key).cpu() for key in _OF_BATCHES if key in collected}
            self._batches.append((self._number, found))

    def _collect_top(
        self, scores_tensor: TopItems, interaction: Any, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        items = scores_tensor.items[:, : max(self.topk)]
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", items)
        if self.register.need("rec.topk"):
            self.data_struct.update_tensor("rec.topk", hits(items, positive_u.to(items), positive_i.to(items)))
        if self.register.need("data.label"):
            self.data_struct.update_tensor(
                "data.label", interaction[RunOptions(self.config).label_field].to(items.device)
            )

    def get_data_struct(self) -> Any:
        """Return what was collected, including counts."""
        collected = self.data_struct._data_dict
        if group.several():
            collected.update(self._gathered())
        plain = {key: collected.pop(key) for key in list(collected) if not isinstance(collected[key], torch.Tensor)}
        struct = super().get_data_struct()
        collected.update(plain)
        struct._data_dict.update(plain)
        return struct

    def _gathered(self) -> dict[str, torch.Tensor]:
        """Return what all processes have collected, in the order of the batches, in the main one; {} in others."""
        mine, self._batches = self._batches, []
        batches = sorted((batch for part in group.gathered(mine) or [] for batch in part), key=lambda pair: pair[0])
        assert [number for number, _ in batches] == list(range(len(batches))), "each batch is evaluated once"
        return {key: torch.cat([found[key] for _, found in batches]) for key in (batches[0][1] if batches else ())}


def best_items(scores: torch.Tensor, length: int) -> TopItems:
    """Return the best items of dense scores, with the padding item in places for which no item is left.

    torch.topk fills such places with arbitrary items at -inf, perhaps a target.

    Args:
        scores: [B, n_items or more]; -inf for what must not be recommended.
        length: Places per user, at most the number of columns.
    """
    values, items = torch.topk(scores, length, dim=-1)
    return TopItems(items.masked_fill(values == -torch.inf, 0), values)


def hits(items: torch.Tensor, positive_u: torch.Tensor, positive_i: torch.Tensor) -> torch.Tensor:
    """Return which places of ranked lists hold a positive item, and how many positive items each user has.

    Args:
        items: Item ids, best first, int64 [B, K].
        positive_u: Rows of the positive items, int64 [P].
        positive_i: Their ids, int64 [P]; a pair may be repeated.

    Returns:
        int32 [B, K + 1] as RecBole's "rec.topk": 0 or 1 per place, then the number of distinct positive items.
    """
    largest = int(torch.cat([items.flatten(), positive_i]).max()) + 1
    pairs = (positive_u * largest + positive_i).unique()
    rows = torch.arange(len(items), device=items.device).unsqueeze(1)
    found = torch.isin(rows * largest + items, pairs)
    counts = torch.bincount(pairs.div(largest, rounding_mode="floor"), minlength=len(items))
    return torch.cat([found.int(), counts.int().unsqueeze(1)], dim=1)
