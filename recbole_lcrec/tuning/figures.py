"""The figures of a search's page, drawn by plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.tuning.distributions import Dimension
from recbole_lcrec.tuning.journal import FAILED, TrialRecord
from recbole_lcrec.tuning.results import Outcome
from recbole_lcrec.webpage import INK, figure_html

BEST, OTHERS = "#1f5a8a", "#9db4c6"
_SCALE = [[0.0, "#d5dde3"], [0.5, "#7fa8c9"], [1.0, "#123f66"]]


def parallel_figure(outcome: Outcome, trials: Sequence[TrialRecord]) -> str:
    """Return parallel coordinates: one axis per option and one for the score.

    Drawn as plain lines: plotly's own kind needs WebGL, which remote desktops and printers do not have.

    Args:
        outcome: The search.
        trials: Those with a score, best first.
    """
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    reports = [trial.best(outcome.bigger) or {} for trial in trials]
    scores = [report["score"] for report in reports]
    axes = [_axis(dimension, [report["values"] for report in reports]) for dimension in outcome.space.dimensions]
    ticks = _ticks(min(scores), max(scores))
    axes.append(Axis(outcome.metric, scores, {tick: f"{tick:.4f}" for tick in ticks}))
    figure = go.Figure()
    spread = max(scores) - min(scores) or 1.0
    for place, trial in reversed(list(enumerate(trials))):  # the best on top
        good = abs(scores[place] - (min(scores) if outcome.bigger else max(scores))) / spread
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[axis.height(axis.values[place]) for axis in axes],
            mode="lines",
            line={"color": sample_colorscale(_SCALE, [good])[0], "width": 1.3 if place else 3.5},
            text=[_hover(trial, reports[place])] * len(axes),
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    for number, axis in enumerate(axes):
        figure.add_shape(type="line", x0=number, x1=number, y0=0, y1=1, line={"color": INK, "width": 1})
        figure.add_annotation(x=number, y=1.06, text=f"<b>{axis.name}</b>", showarrow=False, yanchor="bottom")
        for tick, label in axis.marks.items():
            figure.add_annotation(
                x=number, y=axis.height(tick), text=label, showarrow=False, xanchor="left", xshift=4,
                bgcolor="rgba(255, 255, 255, 0.75)", borderpad=0,
            )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.05, len(axes) - 0.55])
    figure.update_yaxes(visible=False, range=[-0.05, 1.16])
    html = figure_html(figure, "parallel", 420, top=10)
    return f'<div class="scroll"><div style="min-width: {150 * len(axes)}px">{html}</div></div>'


@dataclass(frozen=True)
class Axis:
    """An axis of the parallel coordinates.

    Attributes:
        name: What it shows.
        values: One place per trial.
        marks: Place -> label.
    """

    name: str
    values: Sequence[float]
    marks: Mapping[float, str]

    def height(self, value: float) -> float:
        """Return a place as a height from 0 to 1; a half where there is only one."""
        places = [*self.values, *self.marks]
        low, high = min(places), max(places)
        return 0.5 if low == high else (value - low) / (high - low)


def _axis(dimension: Dimension, values: Sequence[Mapping[str, Any]]) -> Axis:
    """Return the axis of an option; for trials in which it does not count the line passes at the foot."""
    name, points = dimension.name, dimension.points()
    known = [dimension.position(one[name]) for one in values if name in one]
    if not known:
        return Axis(name, [0.0] * len(values), {0.0: "not used"})
    if points is not None and len(points) <= 12:
        marks = {dimension.position(point): _short(point) for point in points}
    else:
        ticks = _ticks(min(known), max(known))
        marks = {tick: f"{10**tick if dimension.kind == 'loguniform' else tick:.3g}" for tick in ticks}
    if len(known) == len(values):
        return Axis(name, known, marks)
    low, high = min(*marks, *known), max(*marks, *known)
    foot = low - (0.2 * (high - low) or 1.0)
    placed = [dimension.position(one[name]) if name in one else foot for one in values]
    return Axis(name, placed, {foot: "not used", **marks})


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
        drawn = _with_gaps(trial)
        figure.add_scatter(
            x=[report and report["epoch"] for report in drawn],
            y=[report and report["score"] for report in drawn],
            mode="lines+markers",
            line={
                "color": BEST if is_best else OTHERS,
                "width": 3 if is_best else 1.2,
                "dash": "dot" if trial.status == FAILED else "solid",
            },
            marker={"size": 6 if is_best else 4},
            name=trial.name,
            text=[report and _hover(trial, report) for report in drawn],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    if best is not None and best.reports:
        report = best.best(outcome.bigger) or {}
        figure.add_annotation(x=report["epoch"], y=report["score"], text=best.name, showarrow=False, yshift=14)
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text=f"{outcome.metric} on validation")
    return figure_html(figure, "curves", 400, top=24)


def _with_gaps(trial: TrialRecord) -> list[dict[str, Any] | None]:
    """Return the reports with a gap where pbt put a copy of another trial in place of this one."""
    drawn: list[dict[str, Any] | None] = []
    for before, report in zip([None, *trial.reports], trial.reports, strict=False):
        if before and (report["values"] != before["values"] or report["epoch"] <= before["epoch"]):
            drawn.append(None)
        drawn.append(report)
    return drawn


def _hover(trial: TrialRecord, report: Mapping[str, Any]) -> str:
    values = "<br>".join(f"{name}: {_short(value)}" for name, value in report["values"].items())
    copied = f" (went on from a copy of {report['copied']})" if report.get("copied") else ""
    return f"<b>{trial.name}</b>{copied}<br>epoch {report['epoch']}: {report['score']:.4f}<br>{values}"


def importance_figure(shares: Mapping[str, float]) -> str:
    """Return a bar per option, the most important one on top."""
    import plotly.graph_objects as go

    names = list(shares)[::-1]
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
