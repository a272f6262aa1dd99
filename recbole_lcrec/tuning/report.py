"""The page of a search: what was tried, how it went, what mattered. One file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from recbole_lcrec.tuning import figures
from recbole_lcrec.tuning.importance import Importance, importance_of, least_trials
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import Outcome
from recbole_lcrec.webpage import page_head, table

_MOST_ROWS = 200


def report_page(outcome: Outcome, result: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        outcome: The search as far as it came.
        result: What result.json holds, after the best trial was tested.
    """
    title = f"Search: {outcome.model} on {outcome.dataset}"
    sections = [
        ("best", "The best trial", _best(outcome, result)),
        ("parallel", "All trials at once", _parallel(outcome)),
        ("curves", "Learning curves", _curves(outcome)),
        ("importance", "What mattered", _importance(outcome)),
        ("trials", "Trials", _trials(outcome)),
    ]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in sections)
    body = "\n".join(f'<section id="{anchor}"><h2>{name}</h2>{text}</section>' for anchor, name, text in sections)
    return (
        f"{page_head(title, _CSS)}<body>\n<main>\n<h1>{escape(title)}</h1>\n{_summary(outcome)}\n<nav>{links}</nav>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _summary(outcome: Outcome) -> str:
    best, counts = outcome.best(), outcome.counts()
    report = best.best(outcome.bigger) if best else None
    seconds = sum(trial.seconds for trial in outcome.journal.trials.values())
    tiles = [
        (f"{report['score']:.4f}" if report else "none", f"best {outcome.metric} on validation"),
        (best.name if best else "none", "best trial"),
        (f"{len(outcome.journal.trials):,}", "trials"),
        *((f"{count:,}", status) for status, count in counts.items()),
        (f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min", "spent in trials"),
    ]
    return (
        f'<div class="tiles">{"".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)}</div>'
    )


def _best(outcome: Outcome, result: Mapping[str, Any] | None) -> str:
    best = outcome.best()
    if best is None:
        return "<p>No trial has been validated.</p>"
    report = best.best(outcome.bigger)
    assert report is not None
    values = table(["option", "value"], [[escape(n), escape(str(v))] for n, v in report["values"].items()])
    test = (result or {}).get("test_result") or {}
    head = ["metric", "validation", *(["test"] if test else [])]
    rows = [
        [name, f"{value:.4f}", *([f"{test[name]:.4f}"] if test else [])] for name, value in report["metrics"].items()
    ]
    note = (
        "Its checkpoint was tested once, after the search; no trial saw the test users."
        if test
        else "It was not tested yet: that is done once, when the search is over."
    )
    return (
        f'<p class="read">{best.name}, after epoch {report["epoch"]}. {note} The validation metrics of the best of '
        "many trials are a little too good: they were chosen for being so.</p>"
        f'<div class="pair">{values}{table(head, rows)}</div>'
    )


def _parallel(outcome: Outcome) -> str:
    scored = [trial for trial in outcome.ranked() if trial.reports and trial.status != FAILED]
    if len(scored) < 2:
        return "<p>Too few trials with a result to compare.</p>"
    return (
        '<p class="read">How to read it: each line is a trial; it crosses every axis at the value that the trial had, '
        "and the last one at its score. The darker, the better; the best is thick. Where dark lines run together, the "
        "option matters; where they are spread, it does not. Point at a line to see its trial.</p>"
        + figures.parallel_figure(outcome, scored[:_MOST_ROWS])
    )


def _curves(outcome: Outcome) -> str:
    scored = [trial for trial in outcome.ranked() if trial.reports]
    if not scored:
        return "<p>No trial has been validated.</p>"
    return (
        f'<p class="read">How to read it: {escape(outcome.metric)} on validation after each evaluation; the best '
        "trial is thick, failed ones are dotted. Lines that end early were stopped by the scheduler or by their own "
        "patience; gaps are changes by pbt. Trials still rising at the end ask for more epochs.</p>"
        + figures.curve_figure(outcome, scored[:_MOST_ROWS])
    )


def _importance(outcome: Outcome) -> str:
    scored = [trial for trial in outcome.ranked() if trial.reports and trial.status != FAILED]
    reports = [trial.best(outcome.bigger) or {} for trial in scored]
    found = importance_of(
        outcome.space, [report["values"] for report in reports], [r["score"] for r in reports], outcome.seed
    )
    if found is None:
        return (
            f"<p>Not estimated: that takes {least_trials(outcome.space)} trials with different scores, and there are "
            f"{len(scored)}.</p>"
        )
    return _read_importance(found) + figures.importance_figure(found.shares)


def _read_importance(found: Importance) -> str:
    trust = f"{found.trusted:.2f}"
    warning = ""
    if found.trusted < 0.2:
        warning = (
            f'<p class="warning">The forest hardly predicts trials it has not seen (R squared {trust}): take the '
            "shares as a hint at most, or run more trials.</p>"
        )
    return (
        '<p class="read">How to read it: a random forest learned the best score of a trial from its options '
        f"({found.trials} trials; R squared on trials that its trees did not see: {trust}). An option's share is what "
        "is lost when its values are shuffled among the trials (permutation importance, shares sum to 1). It says "
        "what mattered within the ranges of this search; trials that were stopped early count with the score they "
        "had.</p>" + warning
    )


def _trials(outcome: Outcome) -> str:
    ranked = outcome.ranked()
    names = outcome.space.names
    rows = [_row(outcome, trial) for trial in ranked[:_MOST_ROWS]]
    more = (
        f'<p class="quiet">and {len(ranked) - _MOST_ROWS:,} more in trials.csv</p>' if len(ranked) > _MOST_ROWS else ""
    )
    head = ["trial", "status", escape(outcome.metric), "epoch", "seconds", *map(escape, names)]
    return table(head, rows) + more


def _row(outcome: Outcome, trial: TrialRecord) -> list[str]:
    best = trial.best(outcome.bigger)
    values = best["values"] if best else trial.values
    why = f' <span class="quiet">{escape(trial.error)}</span>' if trial.error and trial.status == FAILED else ""
    return [
        trial.name,
        trial.status + why,
        f"{best['score']:.4f}" if best else "",
        f"{best['epoch']} of {trial.epoch}" if best else "",
        f"{trial.seconds:,.0f}",
        *(escape(str(values.get(name, ""))) for name in outcome.space.names),
    ]


_CSS = """
.pair { display: flex; flex-wrap: wrap; gap: 0 3rem; }
#trials td, #trials th { white-space: nowrap; }
#trials td:nth-child(2) { white-space: normal; min-width: 9rem; }
"""
