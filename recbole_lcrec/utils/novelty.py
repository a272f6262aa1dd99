"""Novelty of recommended items: how little one would have expected them. A metric that RecBole does not have.

It is added to RecBole's tables of metrics, so ``metrics: [Novelty]`` works like any other metric, for every model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType


def surprise(counts: np.ndarray) -> np.ndarray:
    """Return -log2 of each item's share of all training interactions, in bits; zero interactions count as one.

    Args:
        counts: Training interactions of each of RecBole's item ids, int64 [n_items].
    """
    return -np.log2(np.maximum(counts, 1) / max(int(counts.sum()), 1))


class Novelty(AbstractMetric):
    """Mean self-information of the recommended items (Zhou et al. 2010, arXiv 0808.2670), in bits, for every k.

    Places left empty because the catalogue has fewer items than places do not count.

    Args:
        config: The experiment's configuration.
    """

    metric_type = EvaluatorType.RANKING
    smaller = False
    metric_need = ["rec.items", "data.num_items", "data.count_items"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk: list[int] = config["topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return novelty@k for every k of ``topk``."""
        lists = dataobject.get("rec.items").numpy()
        counts = np.zeros(dataobject.get("data.num_items"), np.int64)
        for item, count in dict(dataobject.get("data.count_items")).items():
            counts[item] = count
        bits = np.where(lists > 0, surprise(counts)[lists], 0.0)
        shown = (lists > 0).sum(axis=0).cumsum()
        means = bits.sum(axis=0).cumsum() / np.maximum(shown, 1)
        return {f"novelty@{k}": round(float(means[k - 1]), self.decimal_place) for k in self.topk}


def add_to_recbole() -> None:
    """Register the metric with RecBole."""
    register.metrics_dict["novelty"] = Novelty
    register.metric_information["novelty"] = Novelty.metric_need
    register.metric_types["novelty"] = Novelty.metric_type
