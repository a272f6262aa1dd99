"""Statistics on small numbers whose answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from comparison_helpers import model_result, ranks_table
from scipy import stats

from recbole_lcrec.comparison.results import metric_of_ranks, per_user
from recbole_lcrec.comparison.slices import overlap, slices
from recbole_lcrec.comparison.statistics import bootstrap_intervals, compare_pairs, holm, paired_p
from recbole_lcrec.evaluation.groups import buckets


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []


def test_metrics_of_ranks_and_where_they_end() -> None:
    ranks = ranks_table([1, 3, 21], censored=[0, 0, 1])
    assert metric_of_ranks(ranks, "Hit@3").tolist() == [1, 1, 0]  # type: ignore[union-attr]
    assert metric_of_ranks(ranks, "ndcg@20").tolist() == [1, 0.5, 0]  # type: ignore[union-attr]
    assert metric_of_ranks(ranks, "mrr@3").tolist() == pytest.approx([1, 1 / 3, 0])  # type: ignore[union-attr]
    assert metric_of_ranks(ranks, "recall@21") is None and metric_of_ranks(ranks, "auc") is None


def test_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_p(np.zeros(5)) == 1.0 and paired_p(np.ones(5)) == 0.0 and paired_p(np.array([0.3])) == 1.0


def test_bootstrap_agrees_with_scipy_and_repeats() -> None:
    differences = np.random.default_rng(1).normal(0.1, 1.0, (200, 2))
    low, high = bootstrap_intervals(differences, resamples=5000)
    for column in range(2):
        expected = stats.bootstrap(
            (differences[:, column],), np.mean, n_resamples=5000, method="percentile", random_state=7
        ).confidence_interval
        assert low[column] == pytest.approx(expected.low, abs=0.01)
        assert high[column] == pytest.approx(expected.high, abs=0.01)
    assert np.array_equal(
        bootstrap_intervals(differences, resamples=50), bootstrap_intervals(differences, resamples=50)
    )


def test_seeds_are_averaged_per_user_and_pairs_corrected() -> None:
    first = ranks_table([1, 1, 9, 9])
    good, bad = model_result("good", [{}], first), model_result("bad", [{}], ranks_table([9, 9, 9, 9]))
    mixed = model_result("mixed", [{}, {}], first)
    object.__setattr__(mixed.runs[1], "ranks", ranks_table([1, 9, 1, 9]))
    values = per_user([good, bad, mixed], "hit@5")
    assert values["mixed"].tolist() == [1.0, 0.5, 0.5, 0.0] and values["bad"].tolist() == [0.0] * 4
    tests = compare_pairs(values, "hit@5", resamples=200)
    assert [(t.first, t.second) for t in tests] == [("good", "bad"), ("good", "mixed"), ("bad", "mixed")]
    assert [t.difference for t in tests] == [0.5, 0.0, -0.5]
    assert [t.p_holm for t in tests] == holm([t.p for t in tests])
    assert tests[0].low <= 0.5 <= tests[0].high and tests[0].users == 4


def test_a_model_whose_ranks_end_earlier_is_left_out() -> None:
    short = model_result("short", [{}], ranks_table([1, 6], censored=[0, 1]))
    values = per_user([short, model_result("long", [{}], ranks_table([1, 6]))], "ndcg@10")
    assert list(values) == ["long"]
    assert list(per_user([short], "ndcg@5")) == ["short"]


def test_buckets_keep_equal_values_together() -> None:
    assert buckets(np.array([1, 1, 1, 1, 2, 3]), 2) == [(1, 1), (2, 3)]
    assert buckets(np.array([1, 1, 1, 1, 2, 3]), 3) == [(1, 1), (2, 2), (3, 3)]
    assert buckets(np.arange(10), 2) == [(0, 5), (6, 9)]
    assert buckets(np.array([4.0]), 5) == [(4, 4)]


def test_slices_with_cold_targets() -> None:
    values = pd.DataFrame({"m": [1.0, 0.0, 1.0, 0.0]}, index=["a", "b", "c", "d"])
    found = slices(values, pd.Series({"d": 9, "a": 0, "b": 2, "c": 2}), 2, cold=("cold", 0))
    assert [(one.name, one.users, one.mean["m"]) for one in found] == [("cold", 1, 1.0), ("2", 2, 0.5), ("9", 1, 0.0)]
    assert found[0].error["m"] == 0 and found[1].error["m"] == pytest.approx(0.5)


def test_overlap_by_hand() -> None:
    targets = ["t0", "t1", "t2", "t3"]
    first = model_result("first", [{}], ranks_table([1, 1, 9, 9], [["t0", "x"], ["t1", "x"], ["x", "y"], ["x", "y"]]))
    second = model_result("second", [{}], ranks_table([2, 9, 1, 9], [["z", "t0"], ["z", "x"], ["t2", ""], ["y", "x"]]))
    assert targets == first.runs[0].ranks["item"].tolist()  # type: ignore[index]
    found = overlap([first, second])
    assert found is not None and found.length == 2
    assert found.found_too.tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert found.lists.tolist() == [[1.0, 0.5], [0.5, 1.0]]  # 1/2, 1/2, 0 and 2/2 of the places
    assert found.alone.tolist() == [0.25, 0.25] and found.any == 0.75
    assert overlap([first]) is None
