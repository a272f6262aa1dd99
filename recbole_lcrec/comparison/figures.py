"""The figures of a comparison's report: one colour per model on the whole page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lcrec.comparison.leaderboard import Board, display
from recbole_lcrec.comparison.results import ModelResult
from recbole_lcrec.comparison.slices import Slice
from recbole_lcrec.webpage import figure_html

PALETTE = (
    "#3f7cac",
    "#c4813d",
    "#5a9a68",
    "#9a5a8f",
    "#7a7f36",
    "#b5545a",
    "#4aa3a2",
    "#8b6b4a",
    "#5c6bb0",
    "#6b7783",
)


def colours(labels: Sequence[str]) -> dict[str, str]:
    """Return label -> colour."""
    return {label: PALETTE[place % len(PALETTE)] for place, label in enumerate(labels)}


def score_figure(board: Board, tint: Mapping[str, str]) -> str:
    """Return the main metric as bars, with the value of every seed as a point on them."""
    import plotly.graph_objects as go

    done = [result for result in board.results if result.runs][::-1]  # plotly draws from the bottom
    figure = go.Figure(
        go.Bar(
            y=[result.label for result in done],
            x=[board.cells[result.label][board.main][0] for result in done],
            marker_color=[tint[result.label] for result in done],
            orientation="h",
            opacity=0.75,
            showlegend=False,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    points = [(r.label, run.seed, run.metrics()[board.main]) for r in done for run in r.runs]
    figure.add_scatter(
        y=[label for label, _, _ in points],
        x=[value for _, _, value in points],
        text=[f"seed {seed}" for _, seed, _ in points],
        mode="markers",
        marker={"color": "#26323d", "size": 7, "symbol": "line-ns-open"},
        showlegend=False,
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
    )
    figure.update_xaxes(title_text=f"{display(board.main)} on the test users; a mark per seed", rangemode="tozero")
    figure.update_yaxes(automargin=True)
    return figure_html(figure, "scores", 90 + 34 * len(done), top=16)


def slice_figure(name: str, found: Sequence[Slice], tint: Mapping[str, str], x_title: str, metric: str) -> str:
    """Return the metric per bucket and model, with one standard error over users."""
    import plotly.graph_objects as go

    names = [f"{one.name}<br>({one.users:,})" for one in found]
    figure = go.Figure()
    for label, colour in tint.items():
        if label in found[0].mean:
            figure.add_bar(
                x=names,
                y=[one.mean[label] for one in found],
                error_y={"type": "data", "array": [one.error[label] for one in found], "thickness": 1, "width": 2},
                marker_color=colour,
                name=label,
                hovertemplate=f"{label}: %{{y:.4f}}<extra></extra>",
            )
    figure.update_xaxes(title_text=x_title, type="category")
    figure.update_yaxes(title_text=display(metric), rangemode="tozero")
    return _with_legend(figure, name, 360, len(tint))


def curve_figure(results: Sequence[ModelResult], tint: Mapping[str, str], metric: str) -> str:
    """Return the validation metric against epochs and against minutes, a line per run; "" where there is none."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    drawn = 0
    for result in results:
        for number, run in enumerate(result.runs):
            points = [point for point in run.result["learning_curve"] if metric in _lower(point.get("valid"))]
            for column, values in (
                (1, [point["epoch"] + 1 for point in points]),
                (2, [point["seconds"] / 60 for point in points]),
            ):
                if not points:
                    continue
                trace = go.Scatter(
                    x=values,
                    y=[_lower(point["valid"])[metric] for point in points],
                    mode="lines+markers",
                    line={"color": tint[result.label], "width": 1.5},
                    marker={"size": 4 if len(points) > 1 else 8},
                    name=result.label,
                    legendgroup=result.label,
                    showlegend=number == 0 and column == 1,
                    hovertemplate=f"{result.label}, seed {run.seed}: %{{y:.4f}}<extra></extra>",
                )
                figure.add_trace(trace, row=1, col=column)
                drawn += 1
    if not drawn:
        return ""
    longest = max(len(run.result["learning_curve"]) for result in results for run in result.runs)
    figure.update_xaxes(title_text="epochs", row=1, col=1, **({"dtick": 1} if longest <= 10 else {}))
    figure.update_xaxes(title_text="minutes of training", row=1, col=2)
    figure.update_yaxes(title_text=f"validation {display(metric)}", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    return _with_legend(figure, "curves", 380, len(tint))


def cost_figure(board: Board, tint: Mapping[str, str]) -> str:
    """Return the main metric against the minutes of training, a point per run."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for result in board.results:
        if result.runs:
            figure.add_scatter(
                x=[run.seconds / 60 for run in result.runs],
                y=[run.metrics().get(board.main) for run in result.runs],
                mode="markers",
                marker={"color": tint[result.label], "size": 10},
                name=result.label,
                hovertemplate=f"{result.label}: %{{y:.4f}} after %{{x:.2f}} min<extra></extra>",
            )
    figure.update_xaxes(title_text="minutes of training (logarithmic)", type="log")
    figure.update_yaxes(title_text=display(board.main), rangemode="tozero")
    return _with_legend(figure, "costs", 340, len(tint))


def _with_legend(figure: Any, name: str, height: int, labels: int) -> str:
    """Return the figure with room for a legend of several lines above it."""
    rows = 1 + (labels - 1) // 5
    html_height = height + 22 * (rows - 1)
    return figure_html(figure, name, html_height, top=44 + 22 * (rows - 1))


def _lower(metrics: Mapping[str, float] | None) -> dict[str, float]:
    return {name.lower(): value for name, value in (metrics or {}).items()}
