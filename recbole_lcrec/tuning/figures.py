"""The figures of a search's page, drawn by plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lcrec.tuning.distributions import Dimension
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import Outcome
from recbole_lcrec.webpage import figure_html

BEST, OTHERS = "#1f5a8a", "#9db4c6"
_SCALE = [[0.0, "#d5dde3"], [0.5, "#7fa8c9"], [1.0, "#123f66"]]


def parallel_figure(outcome: Outcome, trials: Sequence[TrialRecord]) -> str:
    """Return parallel coordinates: one axis per option and one for the score.

    Args:
        outcome: The search.
        trials: Those with a score, best first.
    """
    import plotly.graph_objects as go

    drawn = list(reversed(trials))  # the best on top
    reports = [trial.best(outcome.bigger) or {} for trial in drawn]
    scores = [report["score"] for report in reports]
    axes = [_axis(dimension, [report["values"] for report in reports]) for dimension in outcome.space.dimensions]
    ticks = _ticks(min(scores), max(scores))
    axes.append({"label": outcome.metric, "values": scores, "tickvals": ticks, "ticktext": [f"{t:.4f}" for t in ticks]})
    colours = scores if outcome.bigger else [-score for score in scores]
    figure = go.Figure(
        go.Parcoords(
            line={"color": colours, "colorscale": _SCALE},
            dimensions=axes,
            labelfont={"size": 13},
            tickfont={"size": 12},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        )
    )
    html = figure_html(figure, "parallel", 420, top=70)
    return f'<div class="scroll"><div style="min-width: {130 * len(axes)}px">{html}</div></div>'


def _axis(dimension: Dimension, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return an axis; options that do not count for a trial stand at its foot."""
    known = [dimension.position(one[dimension.name]) for one in values if dimension.name in one]
    if not known:
        return {"label": dimension.name, "values": [0.0] * len(values), "tickvals": [0.0], "ticktext": ["not used"]}
    if dimension.kind == "choice" and not dimension.is_numeric:
        marks = {float(place): _short(value) for place, value in enumerate(dimension.values)}
    elif (points := dimension.points()) is not None and len(points) <= 12:
        marks = {dimension.position(point): _short(point) for point in points}
    elif dimension.kind == "loguniform":
        marks = {tick: f"{10**tick:.3g}" for tick in _ticks(min(known), max(known))}
    else:
        marks = {tick: f"{tick:.4g}" for tick in _ticks(min(known), max(known))}
    low, high = min(min(marks), *known), max(max(marks), *known)
    foot = low - (0.15 * (high - low) or 1.0)
    if len(known) < len(values):
        marks = {foot: "not used", **marks}
        low = foot
    placed = [dimension.position(one[dimension.name]) if dimension.name in one else foot for one in values]
    margin = 0.5 if low == high else 0.0
    return {
        "label": dimension.name,
        "values": placed,
        "tickvals": list(marks),
        "ticktext": list(marks.values()),
        "range": [low - margin, high + margin],
    }


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 18 else text[:17] + "…"


def _ticks(low: float, high: float) -> list[float]:
    """Return five even places from low to high; one if they are equal."""
    if math.isclose(low, high):
        return [low]
    return [low + (high - low) * part / 4 for part in range(5)]


def curve_figure(outcome: Outcome, trials: Sequence[TrialRecord]) -> str:
    """Return the score of every trial after each validation.

    Args:
        outcome: The search.
        trials: Those with a score, best first.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    best = outcome.best()
    for trial in reversed(trials):
        is_best = best is not None and trial.name == best.name
        figure.add_scatter(
            x=[report["epoch"] for report in trial.reports],
            y=[report["score"] for report in trial.reports],
            mode="lines+markers",
            line={
                "color": BEST if is_best else OTHERS,
                "width": 3 if is_best else 1.2,
                "dash": "dot" if trial.status == FAILED else "solid",
            },
            marker={"size": 6 if is_best else 4},
            name=trial.name,
            text=[_hover(trial, report) for report in trial.reports],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    if best is not None and best.reports:
        report = best.best(outcome.bigger) or {}
        figure.add_annotation(x=report["epoch"], y=report["score"], text=best.name, showarrow=False, yshift=14)
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text=f"{outcome.metric} on validation")
    return figure_html(figure, "curves", 400, top=24)


def _hover(trial: TrialRecord, report: Mapping[str, Any]) -> str:
    values = "<br>".join(f"{name}: {_short(value)}" for name, value in report["values"].items())
    copied = f" (went on from a copy of {report['copied']})" if report.get("copied") else ""
    return f"<b>{trial.name}</b>{copied}<br>epoch {report['epoch']}: {report['score']:.4f}<br>{values}"


def importance_figure(shares: Mapping[str, float]) -> str:
    """Return a bar per option, the most important one on top."""
    import plotly.graph_objects as go

    names = list(reversed(shares))
    figure = go.Figure(
        go.Bar(
            x=[shares[name] for name in names],
            y=names,
            orientation="h",
            marker_color="#3f7cac",
            text=[f"{shares[name]:.0%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="share of the importance", range=[0, 1.08], tickformat=".0%")
    figure.update_yaxes(automargin=True)
    return figure_html(figure, "importance", 110 + 34 * len(names), top=16)
