"""The plots of a search's page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbole_lcrec.pages import display
from recbole_lcrec.pages.plots import WIDTH, Axis, Plot, Series, categories, linear
from recbole_lcrec.tuning.distributions import Dimension
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import SearchOutcome

_PER_AXIS = 160  # width of the parallel coordinates
Ruler = tuple[list[float], dict[float, str]]
"""An axis of the parallel coordinates: a place per trial, and place -> label."""


def parallel(outcome: SearchOutcome, trials: Sequence[TrialRecord]) -> Plot:
    """Return parallel coordinates: one axis per option and one for the score.

    Args:
        outcome: The search.
        trials: Those with a score, best first.
    """
    reports = [trial.best(outcome.bigger) or {} for trial in trials]
    scores = [report["score"] for report in reports]
    low, high = min(scores), max(scores)
    rulers = [_ruler(dimension, [report["values"] for report in reports]) for dimension in outcome.space.dimensions]
    rulers.append((scores, {tick: f"{tick:.4f}" for tick in _ticks(low, high)}))
    series = []
    for place, trial in reversed(list(enumerate(trials))):  # the best on top
        good = abs(scores[place] - (low if outcome.bigger else high)) / (high - low or 1.0)
        points = [(float(x), _height(ruler, ruler[0][place])) for x, ruler in enumerate(rulers)]
        hover, weight = [_hover(trial, reports[place])], 1.3 if place else 3.5
        series.append(
            Series("line", points, trial.name, hover=hover, weight=weight, opacity=round(0.12 + 0.88 * good, 2))
        )
    series += [Series("line", [(x, 0), (x, 1)], tint="", weight=1) for x in range(len(rulers))]
    notes = [(float(x), _height(ruler, at), text) for x, ruler in enumerate(rulers) for at, text in ruler[1].items()]
    names, metric = outcome.space.names, display(outcome.metric)
    rows = [[trial.name, *(report["values"].get(name, "") for name in names), report["score"]]
            for trial, report in zip(trials, reports, strict=True)]  # fmt: skip
    x = replace(categories("", [*names, metric]), high=len(names) + 0.5)
    return Plot(
        "parallel", f"Options and {metric} of {len(trials)} trials", x, Axis("", -0.03, 1.05, ()), series,
        width=max(WIDTH, _PER_AXIS * len(rulers)), height=420, notes=notes, table=[["trial", *names, metric], *rows],
    )  # fmt: skip


def _height(ruler: Ruler, value: float) -> float:
    """Return a place as a height from 0 to 1; one half if there is only one place."""
    places = [*ruler[0], *ruler[1]]
    low, high = min(places), max(places)
    return 0.5 if low == high else (value - low) / (high - low)


def _ruler(dimension: Dimension, values: Sequence[Mapping[str, Any]]) -> Ruler:
    """Return the axis of an option; for trials in which it does not count the line runs along the foot."""
    name, points = dimension.name, dimension.points()
    known = [dimension.position(one[name]) for one in values if name in one]
    if not known:
        return [0.0] * len(values), {0.0: "not used"}
    if points is not None and len(points) <= 12:
        marks = {dimension.position(point): _short(point) for point in points}
    else:
        ticks = _ticks(min(known), max(known))
        marks = {tick: f"{10**tick if dimension.kind == 'loguniform' else tick:.3g}" for tick in ticks}
    if len(known) == len(values):
        return known, marks
    low, high = min(*marks, *known), max(*marks, *known)
    foot = low - (0.2 * (high - low) or 1.0)
    return [dimension.position(one[name]) if name in one else foot for one in values], {foot: "not used", **marks}


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 18 else text[:17] + "…"


def _ticks(low: float, high: float) -> list[float]:
    """Return five even places from low to high; one if they are equal."""
    if math.isclose(low, high):
        return [low]
    return [low + (high - low) * part / 4 for part in range(5)]


def curves(outcome: SearchOutcome, trials: Sequence[TrialRecord]) -> Plot:
    """Return the score of every trial after each validation.

    Args:
        outcome: The search.
        trials: Those with a score, best first.
    """
    series, notes = [], []
    best, metric = outcome.best(), display(outcome.metric)
    for trial in reversed(trials):
        is_best = best is not None and trial.name == best.name
        report = trial.best(outcome.bigger) or {}
        dash, weight, opacity = "2 4" if trial.status == FAILED else "", 3 if is_best else 1.5, 1 if is_best else 0.4
        hover, drawn = [_hover(trial, one) for one in trial.reports], _with_gaps(trial)
        of_best = [_hover(trial, report)]
        series.append(Series("line", drawn, trial.name, hover=of_best, dash=dash, weight=weight, opacity=opacity))
        if is_best or len(trial.reports) == 1:  # a line of one point cannot be seen
            points = [point for point in drawn if point]
            series.append(Series("points", points, hover=hover, weight=4, opacity=opacity))
        if is_best:
            notes.append((report["epoch"], report["score"], trial.name))
    reports = [report for trial in trials for report in trial.reports]
    x = linear("epoch", [report["epoch"] for report in reports], zero=False, whole=True)
    y = linear(f"{metric} on validation", [report["score"] for report in reports], zero=False)
    return Plot("curves", f"{metric} on validation by epoch", x, y, series, height=400, notes=notes)


def _with_gaps(trial: TrialRecord) -> list[tuple[float, float] | None]:
    """Return the scores with a gap where pbt replaced this trial by a copy of another."""
    drawn: list[tuple[float, float] | None] = []
    for before, report in zip([None, *trial.reports], trial.reports, strict=False):
        if before and (report["values"] != before["values"] or report["epoch"] <= before["epoch"]):
            drawn.append(None)
        drawn.append((report["epoch"], report["score"]))
    return drawn


def _hover(trial: TrialRecord, report: Mapping[str, Any]) -> str:
    copied = f" (went on from a copy of {report['copied']})" if report.get("copied") else ""
    values = [f"{name}: {_short(value)}" for name, value in report["values"].items()]
    return "\n".join([f"{trial.name}{copied}", f"epoch {report['epoch']}: {report['score']:.4f}", *values])


def importance(shares: Mapping[str, float]) -> Plot:
    """Return a bar per option, the most important one on top."""
    names = list(shares)[::-1]
    points = [(shares[name], float(place)) for place, name in enumerate(names)]
    bars = Series("bars", points, "share", texts=[f"{shares[name]:.0%}" for name in names])
    x = linear("share of the importance", [0.0, 1.0], percent=True)
    y = categories("", names)
    return Plot("importance", "Importance of the options", x, y, [bars], height=64 + 36 * len(names), sideways=True)
