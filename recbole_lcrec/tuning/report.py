"""The page of a search: what was tried, how it went, what mattered. The rows that templates/search.html shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.pages import display, render
from recbole_lcrec.tuning import figures
from recbole_lcrec.tuning.importance import importance_of, least_trials
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import BEST, REPORT, TRIALS_CSV, SearchOutcome, best_yaml, trials_csv
from recbole_lcrec.utils.files import write_text

_MOST_ROWS = 200


def report_page(outcome: SearchOutcome, result: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        outcome: The search so far.
        result: What result.json holds, after the best trial was tested.
    """
    ranked, best, metric = outcome.ranked(), outcome.best(), display(outcome.metric)
    validated = [trial for trial in ranked if trial.reports]
    scored = [trial for trial in validated if trial.status != FAILED]
    reports = [trial.best(outcome.bigger) or {} for trial in scored]
    found = importance_of(outcome.space, [r["values"] for r in reports], [r["score"] for r in reports], outcome.seed)
    return render(
        "search.html",
        outcome=outcome,
        metric=metric,
        best=best,
        report=best and best.best(outcome.bigger),
        test=(result or {}).get("test_result"),
        seconds=sum(trial.seconds for trial in ranked),
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


def _row(outcome: SearchOutcome, trial: TrialRecord) -> dict[str, Any]:
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


def write_outputs(folder: Path, outcome: SearchOutcome, result: Mapping[str, Any] | None = None) -> None:
    """Write trials.csv, report.html and, once there is a best trial, best.yaml, each whole or not at all.

    Args:
        folder: The search's output folder.
        outcome: What to write.
        result: What result.json holds, after the best trial was tested.
    """
    write_text(folder / TRIALS_CSV, trials_csv(outcome))
    if (best := outcome.best()) is not None:
        write_text(folder / BEST, best_yaml(outcome, best))
    write_text(folder / REPORT, report_page(outcome, result))
