"""The files of the leaderboard, letter by letter."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from comparison_helpers import model_result, ranks_table

from recbole_lcrec.comparison import plots, report
from recbole_lcrec.comparison.leaderboard import (
    all_tests,
    leaderboard_csv,
    leaderboard_md,
    leaderboard_tex,
    leaderboard_text,
    make_board,
    significance_csv,
)
from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult
from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.comparison.statistics import PairTest


def results() -> list[ModelResult]:
    broken = model_result("Broken", [], failures={1: "exit status 1: | boom", 2: "killed by SIGKILL"})
    weak = model_result("Weak_1 50%", [{"NDCG@2": 0.1}, {"NDCG@2": 0.2}], options={"loss_type": "BPR"})
    best = model_result("Best", [{"NDCG@2": 0.25}], failures={2: "late"})
    third = model_result("Third", [{"NDCG@2": 0.05}])
    return [broken, weak, third, best]


def test_csv() -> None:
    text = leaderboard_csv(make_board(results(), "ndcg@2"))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["label"] for line in lines] == ["Best", "Weak_1 50%", "Third", "Broken"]
    assert text.splitlines()[0] == (
        "label,model,options,status,seeds,ndcg@2,ndcg@2_std,minutes,users_per_second,parameters,memory_mib,"
        "gpu_memory_mib,split_sha256,reason"
    )
    assert text.splitlines()[1] == "Best,Best,,1 of 2 runs,1,0.25,,1.5,1234.5,1000,512,,abc,seed 2: late"
    assert text.splitlines()[2] == "Weak_1 50%,Weak_1,loss_type=BPR,ok,2,0.15,0.0707107,1.5,1234.5,1000,512,,abc,"
    assert lines[3]["status"] == "failed" and "seed 2: killed by SIGKILL" in lines[3]["reason"]
    assert lines[3]["ndcg@2"] == lines[3]["minutes"] == ""


def test_the_terminal_s_table_is_aligned_and_as_wide_as_a_terminal() -> None:
    assert leaderboard_text(make_board(results(), "ndcg@2")).splitlines() == [
        "model                NDCG@2    minutes    users/s    parameters    MiB       status",
        "----------  ---------------  ---------  ---------  ------------  -----  -----------",
        "Best                *0.2500        1.5      1,234         1,000    512  1 of 2 runs",
        "Weak_1 50%  0.1500 ± 0.0707        1.5      1,234         1,000    512           ok",
        "Third                0.0500        1.5      1,234         1,000    512           ok",
        "Broken                    -          -          -             -      -       failed",
        "",
        "* the best mean",
    ]
    wide = [model_result("m" * 60, [{f"NDCG@{k}": k / 100 for k in range(1, 20)}] * 2)]
    lines = leaderboard_text(make_board(wide, "ndcg@1")).splitlines()
    assert max(map(len, lines)) <= 100 and sum("NDCG@19" in line for line in lines) == 1


def test_markdown() -> None:
    assert leaderboard_md(make_board(results(), "ndcg@2")).splitlines() == [
        "| model | NDCG@2 | minutes | users/s | parameters | MiB | status |",
        "|---|---|---|---|---|---|---|",
        "| Best | **0.2500** | 1.5 | 1,234 | 1,000 | 512 | 1 of 2 runs |",
        "| Weak_1 50% | 0.1500 ± 0.0707 | 1.5 | 1,234 | 1,000 | 512 | ok |",
        "| Third | 0.0500 | 1.5 | 1,234 | 1,000 | 512 | ok |",
        "| Broken | – | – | – | – | – | failed |",
    ]


def test_latex() -> None:
    assert leaderboard_tex(make_board(results(), "ndcg@2"), "a_b").splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Model & NDCG@2 \\",
        r"\midrule",
        r"Best & \textbf{0.2500} \\",
        r"Weak\_1 50\% & \underline{0.1500} {\scriptsize$\pm$0.0707} \\",
        r"Third & 0.0500 \\",
        r"Broken & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"% a\_b; failed: Broken",
    ]


def test_what_describes_lists_is_not_ranked_and_ranks_add_metrics() -> None:
    table = ranks_table([1, 30], [["t0", "a"], ["a", "b"]])
    one = model_result("One", [{"hit@2": 0.5}], table)
    one.runs[0].result["beyond_accuracy"] = {"coverage@2": 0.9}  # type: ignore[index]
    board = make_board([one], "hit@2")
    assert board.metrics == ["hit@2", "mrr@2", "recall@20", "coverage@2"]
    assert board.cells["One"]["mrr@2"] == (0.5, None) and board.cells["One"]["recall@20"] == (0.5, None)
    assert "**0.9" not in leaderboard_md(board) and "overage" not in leaderboard_tex(board, "d")


def test_significance() -> None:
    test = PairTest("ndcg@2", "a, b", "c", 10, 0.5, 0.25, 0.75, 0.001, 0.01)
    assert significance_csv([test]).splitlines() == [
        "metric,first,second,users,difference,low_95,high_95,p_ttest,p_holm",
        'ndcg@2,"a, b",c,10,0.5,0.25,0.75,0.001,0.01',
    ]
    assert test.significant


def page_of(plan: Plan, results: list[ModelResult]) -> str:
    board = make_board(results, "ndcg@2")
    return report.report_page(plan, board, all_tests(board), 1, None)


def test_the_page_is_whole_escaped_and_asks_nobody(tmp_path: Path) -> None:
    lists = [["t0", "a"], ["t1", "b"], ["c", "d"], ["a", "b"]]
    first = model_result("<b>first", [{"ndcg@2": 0.5}, {"ndcg@2": 0.4}], ranks_table([1, 1, 9, 9], lists))
    second = model_result("second", [{"ndcg@2": 0.1}, {"ndcg@2": 0.2}], ranks_table([9, 2, 9, 9], lists))
    broken = model_result("Broken", [], failures={1: "<script>"})
    plan = Plan("<data>", (), (1, 2), {}, 2, tmp_path, ())
    page = page_of(plan, [first, broken, second])
    assert page.count("<h2>") == 10 and "<b>first" not in page and "failed: seed 1: &lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "default-src 'none'" in page.split("<style>")[0] and "<script" not in page
    assert "Hit@" not in page.split("</h1>")[1] and "NDCG@2" in page and "ndcg@" not in page
    assert page == page_of(plan, [first, broken, second])
    only_failed = page_of(plan, [broken])
    assert "No run succeeded" in only_failed
    single = [model_result(name, [{"ndcg@2": 0.1}], ranks_table([1, 2], lists[:2])) for name in "xy"]
    one_seed = page_of(plan, single)
    assert "There is one seed" in one_seed and "There is one seed" not in page


def learning(seconds: Sequence[float], values: Sequence[float]) -> list[dict[str, Any]]:
    """Return a learning curve as result.json has it, with a validation after every epoch."""
    pairs = enumerate(zip(seconds, values, strict=True))
    return [{"epoch": epoch, "seconds": second, "valid": {"NDCG@2": value}} for epoch, (second, value) in pairs]


def test_curves_have_a_mean_and_a_band_as_far_as_all_seeds_trained() -> None:
    one = model_result("One", [{"ndcg@2": 0.5}, {"ndcg@2": 0.4}])
    for run, values in zip(one.runs, ([0.1, 0.3], [0.2, 0.1, 0.4]), strict=True):
        run.result["learning_curve"] = learning([60, 120, 180][: len(values)], values)  # type: ignore[index]
    epochs, minutes = plots.curves([one], {"One": "red"}, {"One": "One"}, "ndcg@2")
    band, first, second, mean, dots = epochs.series
    assert band.points == [(1, 0.1), (2, 0.1), (2, 0.3), (1, 0.2)]
    assert mean.points == dots.points == [(1, pytest.approx(0.15)), (2, pytest.approx(0.2))]
    assert second.points == [(1, 0.2), (2, 0.1), (3, 0.4)] and second.name == "One, seed 2"
    assert [label for _, label in epochs.x.ticks] == ["1", "2", "3"], "an epoch is whole"
    assert [series.name for _, _, series in epochs.legend] == ["One"]
    assert minutes.series[2].points == [(1.0, 0.2), (2.0, 0.1), (3.0, 0.4)]


def test_costs_lie_between_labelled_decades() -> None:
    board = make_board([model_result("One", [{"ndcg@2": 0.5}])], "ndcg@2")  # 90 seconds
    plot = plots.costs(board, {"One": "red"}, {"One": "One"})
    assert [label for _, label in plot.x.ticks if label] == ["1", "10"]
    left, right, *_ = plot.frame
    assert plot.at(1, 0)[0] == left and plot.at(10, 0)[0] == right and left < plot.at(1.5, 0)[0] < right


def test_a_model_goes_by_its_bare_name_where_that_is_unique() -> None:
    def one(label: str, model: str) -> ModelResult:
        return ModelResult(Entry(label, model), (), {})

    labels = ["SASRec(loss_type=CE)", "NARM(a=1)", "NARM(a=2)", "my GRU", "Pop(a=1)", "Pop"]
    models = ["SASRec", "NARM", "NARM", "GRU4Rec", "Pop", "Pop"]
    names = report.page_names([one(label, model) for label, model in zip(labels, models, strict=True)])
    assert list(names.values()) == ["SASRec", *labels[1:]]
