"""report.html: a comparison on one page; the rows that templates/comparison.html shows."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lcrec.comparison import plots
from recbole_lcrec.comparison.leaderboard import Board, cell, cost_cells, describes
from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.repeats import repeats
from recbole_lcrec.comparison.results import ModelResult, is_ranked, per_user, targets
from recbole_lcrec.comparison.slices import Slice, overlap, slices
from recbole_lcrec.comparison.statistics import LEVEL, RESAMPLES, PairTest
from recbole_lcrec.comparison.users import TestData, load_test_data, look
from recbole_lcrec.evaluation.groups import COLD_TARGET, COLD_USER
from recbole_lcrec.pages import display, render, share
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_text
from recbole_lcrec.utils.run_files import REPORT

logger = logging.getLogger(__name__)

Names = Mapping[str, str]
"""Label -> name on the page."""


def write_report(plan: Plan, board: Board, tests: Mapping[str, Sequence[PairTest]], threads: int) -> None:
    """Write report.html into the comparison's folder; what it shows of users is left out if the data are gone.

    Args:
        plan: What was run.
        board: The models in order.
        tests: Metric -> tests of every pair.
        threads: torch threads of each run.
    """
    try:
        known = load_test_data(plan, board.results)
    except UserError as error:
        logger.warning("report.html shows no users: %s", error)
        known = None
    write_text(plan.output_dir / REPORT, report_page(plan, board, tests, threads, known))


def report_page(
    plan: Plan, board: Board, tests: Mapping[str, Sequence[PairTest]], threads: int, known: TestData | None
) -> str:
    """Return the page; arguments as for :func:`write_report`, and the data that the models were tested on."""
    names = page_names(board.results)
    done = [result for result in board.results if result.runs]
    tint = plots.colours([result.label for result in done])
    metrics = [name for name in board.metrics if not describes(name)]
    by_group, cold = _slices(board, tint, names)
    return render(
        "comparison.html",
        plan=plan,
        results=board.results,
        done=done,
        names=names,
        main=board.main,
        users=len(per_user(done, board.main)) if done and is_ranked(board.main) else 0,
        spread=any(std is not None for row in board.cells.values() for _, std in row.values()),
        several=max((len(result.runs) for result in board.results), default=0) > 1,
        metrics=metrics,
        board=_board_rows(board, metrics, tint, names),
        tests=_tests(board, tests, names),
        slices=by_group,
        cold=cold,
        overlap=_overlap(board, names),
        beyond=_beyond(board, names),
        repeats=known and _repeats(known, done, names),
        of_targets=None if (table := targets(done)) is None else float(table["popularity"].mean()),
        shown=known and look(known, done, tint, names),
        costs=_cost_rows(done, names),
        command=shlex.join(sys.argv) if sys.argv[1:] else "",
        runs=[run.result for result in done for run in result.runs],
        threads=threads,
        plots=done
        and {
            "scores": plots.scores(board, tint, names),
            "curves": plots.curves(done, tint, names, board.main),
            "costs": plots.costs(board, tint, names),
        },
    )


def page_names(results: Sequence[ModelResult]) -> dict[str, str]:
    """Return label -> name on the page: the text of an entry gives way to its model where that is unique.

    Labels that a user chose stay; they have no brackets.
    """
    names = {result.label: result.label for result in results}
    models = [result.entry.model for result in results]
    for result in results:
        model = result.entry.model
        if "(" in result.label and models.count(model) == 1 and model not in names:
            names[result.label] = model
    return names


def _board_rows(board: Board, metrics: Sequence[str], tint: Names, names: Names) -> list[dict[str, Any]]:
    places = {name: board.places(name) for name in metrics}
    return [
        {
            "tint": tint.get(result.label),
            "name": names[result.label],
            "cells": [
                (*cell(board, result.label, name).partition(" ± ")[::2], places[name].get(result.label))
                for name in metrics
            ],
            "seeds": len(result.runs),
            "status": result.status,
        }
        for result in board.results
    ]


def _tests(board: Board, tests: Mapping[str, Sequence[PairTest]], names: Names) -> dict[str, Any] | None:
    main = tests.get(board.main)
    if not main:
        return None
    tested = {label for test in main for label in (test.first, test.second)}
    labels = [result.label for result in board.results if result.label in tested]
    others = [(metric, _matrix(labels, found)) for metric, found in tests.items() if metric != board.main and found]
    shown = {"users": main[0].users, "level": LEVEL, "resamples": RESAMPLES, "others": others}
    return {**shown, "names": [names[label] for label in labels], "rows": _matrix(labels, main)}


def _matrix(labels: Sequence[str], tests: Sequence[PairTest]) -> list[list[dict[str, Any] | None]]:
    """Return row minus column for every pair, None where there is no test."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for test in tests:
        for pair, sign in (((test.first, test.second), 1), ((test.second, test.first), -1)):
            low, high = sorted((sign * test.low, sign * test.high))
            difference = sign * test.difference
            kind = "same" if not test.significant else "better" if difference > 0 else "worse"
            found[pair] = {"kind": kind, "difference": difference, "low": low, "high": high, "p": _p(test.p_holm)}
    return [[found.get((row, column)) for column in labels] for row in labels]


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"= {value:.4f}".replace("0.", ".", 1) if value < 1 else "= 1"


def _slices(board: Board, tint: Names, names: Names) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """Return (heading, plot, head and rows of the table) per grouping, and how many are cold."""
    known = targets(board.results)
    values = per_user(board.results, board.main).dropna()
    if known is None or values.empty:
        return [], {}
    by_popularity = slices(values, known["popularity"], cold=COLD_TARGET)
    by_length = slices(values, known["history"], cold=COLD_USER)
    groups = (
        ("history length", "Users by length of their history", by_length, "interactions",
         "the user's interactions before the test (users in brackets)"),
        ("popularity", "Targets by popularity", by_popularity, "training interactions",
         "training interactions of the target (users in brackets)"),
    )  # fmt: skip
    shown = [
        (title, plots.slices(key, found, tint, names, axis, board.main), *_slice_table(found, column, names))
        for key, title, found, column, axis in groups
    ]
    cold = {"users": (by_length, COLD_USER), "targets": (by_popularity, COLD_TARGET)}
    return shown, {
        what: next((one.users for one in found if one.name == name), 0) for what, (found, (name, _)) in cold.items()
    }


def _slice_table(found: Sequence[Slice], column: str, names: Names) -> tuple[list[str], list[list[str]]]:
    labels = list(found[0].mean)
    rows = [
        [one.name, f"{one.users:,}", *(f"{one.mean[label]:.4f} ± {one.error[label]:.4f}" for label in labels)]
        for one in found
    ]
    return [column, "users", *(names[label] for label in labels)], rows


def _overlap(board: Board, names: Names) -> dict[str, Any] | None:
    found = overlap(board.results)
    if found is None:
        return None

    def others(matrix: Any) -> list[list[float | None]]:
        return [[None if i == j else value for j, value in enumerate(row)] for i, row in enumerate(matrix.tolist())]

    return {
        "names": [names[label] for label in found.labels],
        "found": others(found.found_too),
        "lists": others(found.lists),
        "alone": [[names[label], f"{part:.1%}"] for label, part in zip(found.labels, found.alone, strict=True)],
        "length": found.length,
        "any": found.any,
    }


def _repeats(known: TestData, done: Sequence[ModelResult], names: Names) -> dict[str, Any] | None:
    found = repeats(known, done)
    if found is None:
        return None
    k = found.length
    head = ["model", "first places with repeats", "all places with repeats"]
    if found.repeated:
        head += [f"Hit@{at}, {of}" for at in (1, k) for of in ("repeats", "new")]
        head += ["repeats among hits at 1", f"repeats among hits at {k}"]
    rows = []
    for one in found.models:
        cells = [share(one.first), share(one.places)]
        if found.repeated:
            cells += ["–" if value is None else f"{value:.4f}" for value in (*one.hit_1, *one.hit_k)]
            cells += [share(one.among_1), share(one.among_k)]
        rows.append([names[one.label], *cells])
    return {"targets": found.targets, "repeated": found.repeated, "length": k, "head": head, "rows": rows}


def _beyond(board: Board, names: Names) -> tuple[list[str], list[list[str]]] | None:
    metrics = [name for name in board.metrics if describes(name)]
    rows = [
        [names[result.label], *(cell(board, result.label, name) or "–" for name in metrics)]
        for result in board.results
        if result.runs
    ]
    return (["model", *map(display, metrics)], rows) if metrics else None


def _cost_rows(done: Sequence[ModelResult], names: Names) -> list[list[str]]:
    rows = []
    for result in done:
        minutes, *others = [part or "–" for part in cost_cells(result)]
        gpu, epochs = result.costs()["gpu_memory_mib"], ", ".join(str(run.result["epochs"]) for run in result.runs)
        rows.append([names[result.label], minutes, epochs, *others, f"{gpu:,.0f}" if gpu else "–"])
    return rows
