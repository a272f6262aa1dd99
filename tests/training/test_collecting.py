"""The collector reads top items as RecBole's reads a dense matrix of scores."""

from __future__ import annotations

import torch
from recbole.evaluator import Collector

from recbole_lcrec.evaluation.collecting import ItemCollector, hits
from recbole_lcrec.evaluation.queries import TopItems


class _Register:
    def __init__(self, *names: str) -> None:
        self.names = names

    def need(self, name: str) -> bool:
        return name in self.names


def collector(kind: type, *names: str) -> Collector:
    made = object.__new__(kind)
    made.register, made.topk, made.device = _Register(*names), [1, 5], "cpu"
    made.data_struct = __import__("recbole.evaluator.collector", fromlist=["DataStruct"]).DataStruct()
    return made


def test_equals_recbole_on_dense_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):  # batches
        scores = torch.rand(6, 40, generator=generator)
        positive_u = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 5])
        positive_i = torch.randint(1, 40, (9,), generator=generator)
        positive_i[8] = positive_i[7]  # a pair twice
        positive_i[2] = scores[1].argmax()
        dense, top = (collector(kind, "rec.items", "rec.topk") for kind in (Collector, ItemCollector))
        dense.eval_batch_collect(scores, {}, positive_u, positive_i)
        best = scores.topk(8)
        top.eval_batch_collect(TopItems(best.indices, best.values), {}, positive_u, positive_i)
        for name in ("rec.items", "rec.topk"):
            assert torch.equal(top.data_struct.get(name), dense.data_struct.get(name).to(top.data_struct.get(name)))
        assert top.data_struct.get("rec.topk").sum() > 6


def test_metrics_of_all_scores_need_all_scores() -> None:
    assert collector(ItemCollector, "rec.items", "rec.topk").reads_top_items_only()
    assert not collector(ItemCollector, "rec.topk", "rec.meanrank").reads_top_items_only()
    assert not collector(ItemCollector, "rec.score").reads_top_items_only()


def test_places_without_an_item_are_no_hits() -> None:
    wide = TopItems(torch.tensor([[4, 2], [3, 1]]), torch.zeros(2, 2)).widened(5)
    assert wide.items.tolist() == [[4, 2, 0, 0, 0], [3, 1, 0, 0, 0]] and wide.scores[0, 4] == -torch.inf
    assert hits(wide.items, torch.tensor([0, 1]), torch.tensor([2, 9])).tolist() == [[0, 1, 0, 0, 0, 1], [0] * 5 + [1]]
