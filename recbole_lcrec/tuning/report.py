"""The page of a search: what was tried, how it went, what mattered. The rows that templates/search.html shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lcrec.pages import display, render
from recbole_lcrec.tuning import figures
from recbole_lcrec.tuning.importance import importance_of, least_trials
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import Outcome

_MOST_ROWS = 200
_SECTIONS = (
    ("best", "The best trial"),
    ("parallel", "All trials at once"),
    ("curves", "Learning curves"),
    ("importance", "What mattered"),
    ("trials", "Trials"),
)


def report_page(outcome: Outcome, result: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        outcome: The search as far as it came.
        result: What result.json holds, after the best trial was tested.
    """
    ranked, metric = outcome.ranked(), display(outcome.metric)
    validated = [trial for trial in ranked if trial.reports]
    scored = [trial for trial in validated if trial.status != FAILED]
    reports = [trial.best(outcome.bigger) or {} for trial in scored]
    found = importance_of(outcome.space, [r["values"] for r in reports], [r["score"] for r in reports], outcome.seed)
    return render(
        "search.html",
        title=f"Search: {outcome.model} on {outcome.dataset}",
        sections=_SECTIONS,
        metric=metric,
        summary=_summary(outcome),
        best=_best(outcome, (result or {}).get("test_result") or {}),
        importance=found,
        needed=least_trials(outcome.space),
        scored=len(scored),
        head=["trial", "status", metric, "epoch", "seconds", *outcome.space.names],
        rows=[_row(outcome, trial) for trial in ranked[:_MOST_ROWS]],
        more=max(0, len(ranked) - _MOST_ROWS),
        plots={
            "parallel": figures.parallel(outcome, scored[:_MOST_ROWS]) if len(scored) > 1 else None,
            "curves": figures.curves(outcome, validated[:_MOST_ROWS]) if validated else None,
            "importance": figures.importance(found.shares) if found else None,
        },
    )


def _summary(outcome: Outcome) -> list[tuple[str, str]]:
    best = outcome.best()
    report = best.best(outcome.bigger) if best else None
    seconds = sum(trial.seconds for trial in outcome.journal.trials.values())
    return [
        (f"{report['score']:.4f}" if report else "none", f"best {display(outcome.metric)} on validation"),
        (best.name if best else "none", "best trial"),
        (f"{len(outcome.journal.trials):,}", "trials"),
        *((f"{count:,}", status) for status, count in outcome.counts().items()),
        (f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min", "spent in trials"),
    ]


def _best(outcome: Outcome, test: Mapping[str, float]) -> dict[str, Any] | None:
    best = outcome.best()
    report = best.best(outcome.bigger) if best else None
    if best is None or report is None:
        return None
    return {
        "name": best.name,
        "epoch": report["epoch"],
        "tested": bool(test),
        "options": [[name, str(value)] for name, value in report["values"].items()],
        "metrics": [
            [display(name), f"{value:.4f}", *([f"{test[name]:.4f}"] if test else [])]
            for name, value in report["metrics"].items()
        ],
    }


def _row(outcome: Outcome, trial: TrialRecord) -> dict[str, Any]:
    best = trial.best(outcome.bigger)
    values = best["values"] if best else trial.values
    cells = [
        f"{best['score']:.4f}" if best else "",
        f"{best['epoch']} of {trial.epoch}" if best else "",
        f"{trial.seconds:,.0f}",
        *(str(values.get(name, "")) for name in outcome.space.names),
    ]
    return {"name": trial.name, "status": trial.status, "error": trial.error if trial.status == FAILED else "",
            "cells": cells}  # fmt: skip
