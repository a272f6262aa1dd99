"""The files of the leaderboard, letter by letter."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from comparison_helpers import model_result, ranks_table

from recbole_lcrec.comparison import report
from recbole_lcrec.comparison.leaderboard import (
    all_tests,
    leaderboard_csv,
    leaderboard_md,
    leaderboard_tex,
    make_board,
    significance_csv,
)
from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult
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
    return report.report_page(plan, board, all_tests(board), 1)


def test_the_page_is_whole_escaped_and_asks_nobody(tmp_path: Path) -> None:
    lists = [["t0", "a"], ["t1", "b"], ["c", "d"], ["a", "b"]]
    first = model_result("<b>first", [{"ndcg@2": 0.5}, {"ndcg@2": 0.4}], ranks_table([1, 1, 9, 9], lists))
    second = model_result("second", [{"ndcg@2": 0.1}, {"ndcg@2": 0.2}], ranks_table([9, 2, 9, 9], lists))
    broken = model_result("Broken", [], failures={1: "<script>"})
    plan = Plan("<data>", (), (1, 2), {}, 2, tmp_path, ())
    page = page_of(plan, [first, broken, second])
    assert page.count("<h2>") == 8 and "<b>first" not in page and "failed: seed 1: &lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page.split("</head>")[1])
    assert "default-src 'none'" in page.split("<script>")[0]
    assert len(page) > 3_000_000 and page.count("plotly.js v") == 1
    assert "Hit@" not in page.split("</h1>")[1] and "NDCG@2" in page
    only_failed = page_of(plan, [broken])
    assert "No run succeeded" in only_failed
    single = [model_result(name, [{"ndcg@2": 0.1}], ranks_table([1, 2], lists[:2])) for name in "xy"]
    one_seed = page_of(plan, single)
    assert "There is one seed" in one_seed and "There is one seed" not in page
