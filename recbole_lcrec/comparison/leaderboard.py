"""leaderboard.csv, .md and .tex: one row per model; and significance.csv: one row per pair and metric."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult, is_ranked, mean_and_std, per_user
from recbole_lcrec.comparison.statistics import PairTest, compare_pairs
from recbole_lcrec.pages import display
from recbole_lcrec.utils.errors import clipped
from recbole_lcrec.utils.files import write_text

COSTS = ("minutes", "users_per_second", "parameters", "memory_mib", "gpu_memory_mib")
COST_HEADS = ("minutes", "users/s", "parameters", "MiB")
"""Headings of what :func:`cost_cells` returns."""
_SMALLER = ("logloss", "mae", "rmse")
"""Metrics for which less is better."""
_DESCRIBING = (
    *("coverage", "gini", "popularity", "novelty"),
    *("itemcoverage", "giniindex", "averagepopularity", "shannonentropy", "tailpercentage"),
)
"""Metrics that say what lists are like; random lists do best in them, so no value is marked as best."""


@dataclass(frozen=True)
class Board:
    """The leaderboard before it is written.

    Attributes:
        results: The models, best first by the main metric; failed ones last.
        metrics: Names of the metrics, RecBole's first.
        main: The metric that orders the models.
        cells: Label -> metric -> (mean, sample standard deviation over seeds or None).
    """

    results: list[ModelResult]
    metrics: list[str]
    main: str
    cells: dict[str, dict[str, tuple[float, float | None]]]

    def places(self, metric: str) -> dict[str, int]:
        """Return label -> place (0 is best) by the mean; equal means share a place. {} for metrics that describe."""
        if describes(metric):
            return {}
        sign = -1 if metric.split("@")[0] in _SMALLER else 1
        values = {label: sign * cells[metric][0] for label, cells in self.cells.items() if metric in cells}
        distinct = sorted(set(values.values()), reverse=True)
        return {label: distinct.index(value) for label, value in values.items()}


def describes(metric: str) -> bool:
    """Return whether a metric says what lists are like, and not whether they are right."""
    return metric.split("@")[0] in _DESCRIBING


def make_board(results: Sequence[ModelResult], main: str) -> Board:
    """Put the models in order.

    Args:
        results: One per model.
        main: Metric to order by; if no run has it, the first metric there is.
    """
    cells = {r.label: {name: mean_and_std(v) for name, v in r.values().items()} for r in results if r.runs}
    metrics = list(dict.fromkeys(name for row in cells.values() for name in row))
    main = main if main in metrics or not metrics else metrics[0]
    board = Board(list(results), metrics, main, cells)
    places = board.places(main) if metrics else {}
    ordered = sorted(results, key=lambda result: places.get(result.label, len(results)))
    return Board(ordered, metrics, main, cells)


def main_metric(plan: Plan) -> str:
    """Return the metric that the models were chosen by, in lower case as in results."""
    return str(plan.runs[0].stages[-1].resolved["valid_metric"]).lower()


def all_tests(board: Board) -> dict[str, list[PairTest]]:
    """Return metric -> tests of every pair, for the metrics with a value per user."""
    return {name: compare_pairs(per_user(board.results, name), name) for name in board.metrics if is_ranked(name)}


def write_leaderboard(plan: Plan, board: Board, tests: Mapping[str, Sequence[PairTest]]) -> None:
    """Write leaderboard.csv, .md, .tex and significance.csv into the comparison's folder.

    Args:
        plan: What was run.
        board: The models in order.
        tests: Metric -> tests of every pair.
    """
    folder = plan.output_dir
    write_text(folder / "leaderboard.csv", leaderboard_csv(board))
    write_text(folder / "leaderboard.md", leaderboard_md(board))
    write_text(folder / "leaderboard.tex", leaderboard_tex(board, plan.dataset))
    write_text(folder / "significance.csv", significance_csv([test for found in tests.values() for test in found]))


def leaderboard_csv(board: Board) -> str:
    """Return one line per model; empty cells where nothing is known."""
    head = ["label", "model", "options", "status", "seeds"]
    head += [column for name in board.metrics for column in (name, f"{name}_std")]
    lines = [[*head, *COSTS, "split_sha256", "reason"]]
    for result in board.results:
        cells, costs = board.cells.get(result.label, {}), result.costs()
        options = ", ".join(f"{name}={value}" for name, value in result.entry.options.items())
        row = [result.label, result.entry.model, options, result.status, str(len(result.runs))]
        for name in board.metrics:
            mean, std = cells.get(name, (None, None))
            row += [_number(mean), _number(std)]
        row += [_number(costs[name]) for name in COSTS]
        row.append(str(result.runs[0].result["split_sha256"]) if result.runs else "")
        row.append("; ".join(f"seed {seed}: {reason}" for seed, reason in result.failures.items()))
        lines.append(row)
    return _csv(lines)


def leaderboard_md(board: Board) -> str:
    """Return a table in Markdown; the best mean of a metric is bold."""
    head = ["model", *map(display, board.metrics), *COST_HEADS, "status"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    best = {name: board.places(name) for name in board.metrics}
    for result in board.results:
        row = [result.label.replace("|", "\\|")]
        for name in board.metrics:
            text = cell(board, result.label, name)
            row.append(f"**{text}**" if text and best[name].get(result.label) == 0 else text)
        row += [*cost_cells(result), result.status]
        lines.append("| " + " | ".join(part or "–" for part in row) + " |")
    return "\n".join(lines) + "\n"


def leaderboard_text(board: Board, width: int = 100) -> str:
    """Return the leaderboard for a terminal: aligned, and in several tables where one would be too wide.

    Args:
        board: The models in order.
        width: Columns of the terminal.
    """
    columns: list[list[str]] = []
    for name in board.metrics:
        best = {label for label, place in board.places(name).items() if place == 0}
        texts = [cell(board, one.label, name) or "-" for one in board.results]
        marked = ["*" + text if one.label in best else text for one, text in zip(board.results, texts, strict=True)]
        columns.append([display(name), *marked])
    costs = zip(*map(cost_cells, board.results), strict=True)
    columns += [[head, *(text or "-" for text in texts)] for head, texts in zip(COST_HEADS, costs, strict=True)]
    columns.append(["status", *(one.status for one in board.results)])
    labels = ["model", *(clipped(one.label, width // 3) for one in board.results)]
    tables: list[list[list[str]]] = []
    for column in columns:
        if not tables or _width(_aligned([*tables[-1], column])) > width:
            tables.append([labels])
        tables[-1].append(column)
    return "\n\n".join([*map(_aligned, tables), "* the best mean"])


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def _aligned(columns: Sequence[Sequence[str]]) -> str:
    head, *rows = zip(*columns, strict=True)
    align = ("left", *("right" for _ in columns[1:]))
    lines = tabulate(rows, headers=head, colalign=align, disable_numparse=True, tablefmt="simple").splitlines()
    return "\n".join(line.rstrip() for line in lines)


def leaderboard_tex(board: Board, dataset: str) -> str:
    """Return a booktabs table of the accuracy: best mean bold, second underlined, deviations over seeds small."""
    names = [name for name in board.metrics if not describes(name)]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{l" + "r" * len(names) + "}",
        r"\toprule",
        " & ".join(["Model", *(_tex(display(name)) for name in names)]) + r" \\",
        r"\midrule",
    ]
    places = {name: board.places(name) for name in names}
    for result in board.results:
        row = [_tex(result.label)]
        for name in names:
            mean, std = board.cells.get(result.label, {}).get(name, (None, None))
            text = "--" if mean is None else f"{mean:.4f}"
            place = places[name].get(result.label)
            text = rf"\textbf{{{text}}}" if place == 0 else rf"\underline{{{text}}}" if place == 1 else text
            row.append(text if std is None else rf"{text} {{\scriptsize$\pm${std:.4f}}}")
        lines.append(" & ".join(row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines.append(
        f"% {_tex(dataset)}; failed: {', '.join(_tex(r.label) for r in board.results if not r.runs) or 'none'}"
    )
    return "\n".join(lines) + "\n"


def significance_csv(tests: Sequence[PairTest]) -> str:
    """Return one line per pair and metric."""
    head = ["metric", "first", "second", "users", "difference", "low_95", "high_95", "p_ttest", "p_holm"]
    rows = [
        [
            t.metric,
            t.first,
            t.second,
            str(t.users),
            *(_number(v) for v in (t.difference, t.low, t.high, t.p, t.p_holm)),
        ]
        for t in tests
    ]
    return _csv([head, *rows])


def cell(board: Board, label: str, metric: str) -> str:
    """Return mean and deviation as text, "" if the model has no value."""
    mean, std = board.cells.get(label, {}).get(metric, (None, None))
    if mean is None:
        return ""
    digits = 4 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def cost_cells(result: ModelResult) -> list[str]:
    """Return minutes, users per second, parameters and MiB of memory as text, "" where unknown."""
    costs = result.costs()
    minutes, memory = costs["minutes"], costs["memory_mib"]
    return [
        "" if minutes is None else f"{minutes:.1f}" if minutes >= 0.1 else f"{minutes:.2f}",
        "" if costs["users_per_second"] is None else f"{costs['users_per_second']:,.0f}",
        "" if costs["parameters"] is None else f"{costs['parameters']:,.0f}",
        "" if memory is None else f"{memory:,.0f}",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _tex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    table = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: table.get(found[0], "\\" + found[0]), text)
