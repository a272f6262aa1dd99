"""The plots of a comparison's report: one colour per model on the whole page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from recbole_lcrec.comparison.leaderboard import Board
from recbole_lcrec.comparison.results import ModelResult, RunResult
from recbole_lcrec.comparison.slices import Slice
from recbole_lcrec.pages import display
from recbole_lcrec.pages.plots import HALF, PALETTE, Place, Plot, Series, categories, decades, linear

Texts = Mapping[str, str]
"""Label -> colour, or label -> name on the page."""


def colours(labels: Sequence[str]) -> dict[str, str]:
    """Return label -> colour."""
    return {label: PALETTE[place % len(PALETTE)] for place, label in enumerate(labels)}


def scores(board: Board, tint: Texts, names: Texts) -> Plot:
    """Return the main metric as bars, with the value of every seed as a mark on them."""
    done = [result for result in board.results if result.runs][::-1]  # axes go upwards, and the best is on top
    bars, marks = [], []
    for place, label in enumerate(result.label for result in done):
        bars.append(Series("bars", [(board.cells[label][board.main][0], place)], "mean", tint[label], opacity=0.75))
        marks += [
            Series("marks", [(run.metrics()[board.main], place)], f"seed {run.seed}") for run in done[place].runs
        ]
    metric = display(board.main)
    x = linear(
        f"{metric} on the test users; a mark per seed", [x for one in marks for x, _ in filter(None, one.points)]
    )
    y = categories("", [names[result.label] for result in done])
    return Plot("scores", f"{metric} by model", x, y, [*bars, *marks], height=64 + 40 * len(done), sideways=True)


def slices(key: str, found: Sequence[Slice], tint: Texts, names: Texts, x_title: str, metric: str) -> Plot:
    """Return the metric per bucket and model, with one standard error over users."""
    labels = [label for label in tint if label in found[0].mean]
    series = []
    for number, label in enumerate(labels):
        points = [(float(place), one.mean[label]) for place, one in enumerate(found)]
        errors, slot = [one.error[label] for one in found], (number, len(labels))
        series.append(Series("bars", points, names[label], tint[label], errors=errors, slot=slot, legend=True))
    x = categories(x_title, [f"{one.name}\n({one.users:,})" for one in found])
    y = linear(display(metric), [one.mean[label] + one.error[label] for one in found for label in labels])
    return Plot(key.split()[0], f"{display(metric)} by {key}", x, y, series, height=360)


def curves(results: Sequence[ModelResult], tint: Texts, names: Texts, metric: str) -> list[Plot]:
    """Return the validation metric against epochs and against minutes; [] if there is none."""
    found = {
        result.label: {run.seed: points for run in result.runs if (points := _validations(run, metric))}
        for result in results
    }
    every = [point for runs in found.values() for points in runs.values() for point in points]
    if not every:
        return []
    y = linear(f"validation {display(metric)}", [point[2] for point in every])
    plots = []
    for number, key in enumerate(("epochs", "minutes")):
        series: list[Series] = []
        for label, runs in found.items():
            lines = {seed: [(point[number], point[2]) for point in points] for seed, points in runs.items()}
            series += _mean_and_band(lines, names[label], tint[label]) if lines else []
        whole = key == "epochs"
        title = key if whole else "minutes of training"
        x = linear(title, [point[number] for point in every], zero=not whole, whole=whole)
        title = f"Validation {display(metric)} by {key}"
        plots.append(Plot(f"curves-{key}", title, x, y, series, width=HALF, height=320))
    return plots


def _validations(run: RunResult, metric: str) -> list[tuple[float, float, float]]:
    """Return (epoch, minutes, value) of the validations that have the metric."""
    points = []
    for point in run.result["learning_curve"]:
        values = {name.lower(): value for name, value in (point.get("valid") or {}).items()}
        if metric in values:
            points.append((point["epoch"] + 1, point["seconds"] / 60, values[metric]))
    return points


def _mean_and_band(lines: Mapping[int, Sequence[Place]], name: str, tint: str) -> list[Series]:
    """Return the line of a seed, or those of several with their mean and a band from the lowest to the highest.

    The mean ends where the first seed stops; the lines of the others go on.
    """
    at_once = list(zip(*lines.values(), strict=False))
    low, mean, high = (
        [(fmean(x for x, _ in points), of(y for _, y in points)) for points in at_once] for of in (min, fmean, max)
    )
    series: list[Series] = []
    if len(lines) > 1:
        series.append(Series("area", [*low, *high[::-1]], tint=tint, opacity=0.18))
        for seed, line in lines.items():
            series.append(Series("line", line, f"{name}, seed {seed}", tint, weight=1, opacity=0.5))
    dots = Series("points", mean, tint=tint, hover=[f"{name}: {y:.4f}" for _, y in mean], weight=4)
    return [*series, Series("line", mean, name, tint, weight=2.5, legend=True), dots]


def costs(board: Board, tint: Texts, names: Texts) -> Plot:
    """Return the main metric against the minutes of training, a point per run."""
    series = []
    for label, runs in ((result.label, result.runs) for result in board.results):
        points = [(run.seconds / 60, value) for run in runs if (value := run.metrics().get(board.main)) is not None]
        series.append(
            Series("points", points, names[label], tint.get(label, ""), weight=6, opacity=0.85, legend=bool(points))
        )
    metric, places = display(board.main), [point for one in series for point in one.points if point]
    x = decades("minutes of training (logarithmic)", [x for x, _ in places])
    return Plot("costs", f"{metric} by minutes of training", x, linear(metric, [y for _, y in places]), series)
