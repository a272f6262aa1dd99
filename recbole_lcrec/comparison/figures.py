"""The plots of a comparison's report: one colour per model on the whole page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from recbole_lcrec.comparison.leaderboard import Board
from recbole_lcrec.comparison.results import ModelResult
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
    bars, marks, values = [], [], []
    for place, result in enumerate(done):
        mean, name = board.cells[result.label][board.main][0], names[result.label]
        bars.append(Series("bars", [(mean, place)], "mean", tint[result.label], [f"{name}: {mean:.4f}"], opacity=0.75))
        for run in result.runs:
            value = run.metrics()[board.main]
            hover = [f"{name}, seed {run.seed}: {value:.4f}"]
            marks.append(Series("marks", [(value, place)], f"seed {run.seed}", hover=hover))
            values.append(value)
    metric = display(board.main)
    x = linear(f"{metric} on the test users; a mark per seed", values)
    y = categories("", [names[result.label] for result in done])
    return Plot("scores", f"{metric} by model", x, y, [*bars, *marks], height=64 + 40 * len(done), sideways=True)


def slices(key: str, found: Sequence[Slice], tint: Texts, names: Texts, x_title: str, metric: str) -> Plot:
    """Return the metric per bucket and model, with one standard error over users."""
    labels = [label for label in tint if label in found[0].mean]
    series = []
    for number, label in enumerate(labels):
        hover = [f"{names[label]}: {one.mean[label]:.4f} ± {one.error[label]:.4f}" for one in found]
        points = [(float(place), one.mean[label]) for place, one in enumerate(found)]
        errors, slot = [one.error[label] for one in found], (number, len(labels))
        name = names[label]
        series.append(Series("bars", points, name, tint[label], hover, errors=errors, slot=slot, legend=name))
    x = categories(x_title, [f"{one.name}\n({one.users:,})" for one in found])
    y = linear(display(metric), [one.mean[label] + one.error[label] for one in found for label in labels])
    by = "history length" if key == "history" else "popularity of the target"
    return Plot(key, f"{display(metric)} by {by}", x, y, series, height=360)


def curves(results: Sequence[ModelResult], tint: Texts, names: Texts, metric: str) -> list[Plot]:
    """Return the validation metric against epochs and against minutes; [] where there is none.

    Seeds that stopped early have no part in a mean: it ends with the first of them, and their own lines go on.
    """
    found = [(result.label, [_validations(run.result["learning_curve"], metric) for run in result.runs])
             for result in results]  # fmt: skip
    scores = [point[2] for _, runs in found for run in runs for point in run]
    if not scores:
        return []
    y = linear(f"validation {display(metric)}", scores)
    plots = []
    for number, key in enumerate(("epochs", "minutes")):
        series: list[Series] = []
        for (label, runs), result in zip(found, results, strict=True):
            lines = {run.seed: [(point[number], point[2]) for point in points]
                     for run, points in zip(result.runs, runs, strict=True) if points}  # fmt: skip
            if lines:
                series += _mean_and_band(lines, names[label], tint[label])
        places = [point[number] for _, runs in found for run in runs for point in run]
        x = (
            linear("epochs", places, zero=False, whole=True)
            if key == "epochs"
            else linear("minutes of training", places)
        )
        title = f"Validation {display(metric)} by {key}"
        plots.append(Plot(f"curves-{key}", title, x, y, series, width=HALF, height=320))
    return plots


def _validations(curve: Sequence[Mapping], metric: str) -> list[tuple[float, float, float]]:
    """Return (epoch, minutes, value) of the validations that have the metric."""
    points = []
    for point in curve:
        values = {name.lower(): value for name, value in (point.get("valid") or {}).items()}
        if metric in values:
            points.append((point["epoch"] + 1, point["seconds"] / 60, values[metric]))
    return points


def _mean_and_band(lines: Mapping[int, Sequence[Place]], name: str, tint: str) -> list[Series]:
    """Return a line per seed, and over several of them their mean with a band from the lowest to the highest."""
    at_once = list(zip(*lines.values(), strict=False))
    places = [fmean(x for x, _ in points) for points in at_once]
    means = [(x, fmean(y for _, y in points)) for x, points in zip(places, at_once, strict=True)]
    series = []
    if len(lines) > 1:
        low = [(x, min(y for _, y in points)) for x, points in zip(places, at_once, strict=True)]
        high = [(x, max(y for _, y in points)) for x, points in zip(places, at_once, strict=True)]
        series.append(Series("area", [*low, *high[::-1]], name, tint, opacity=0.18))
        series += [Series("line", line, f"{name}, seed {seed}", tint, weight=1, opacity=0.5)
                   for seed, line in lines.items()]  # fmt: skip
    only = f"{name}, seed {next(iter(lines))}" if len(lines) == 1 else f"{name}, mean of {len(lines)} seeds"
    series.append(Series("line", means, only, tint, weight=2.5, legend=name))
    hover = [f"{only}: {y:.4f}" for _, y in means]
    return [*series, Series("points", means, tint=tint, hover=hover, weight=4)]


def costs(board: Board, tint: Texts, names: Texts) -> Plot:
    """Return the main metric against the minutes of training, a point per run."""
    series = []
    for result in board.results:
        name = names[result.label]
        points = [(run.seconds / 60, run.metrics()[board.main]) for run in result.runs]
        hover = [f"{name}, seed {run.seed}: {y:.4f} after {x:.2f} min"
                 for run, (x, y) in zip(result.runs, points, strict=True)]  # fmt: skip
        if points:
            series.append(
                Series("points", points, name, tint[result.label], hover, weight=6, opacity=0.85, legend=name)
            )
    metric, places = display(board.main), [point for one in series for point in one.points if point]
    x = decades("minutes of training (logarithmic)", [x for x, _ in places])
    return Plot("costs", f"{metric} by minutes of training", x, linear(metric, [y for _, y in places]), series)
