"""Plots as plain data: axes with ticks, and series of points. templates/plot.svg draws them.

They are drawn as SVG inside the page and not by a JavaScript library: a page is small, follows the reader's light or
dark mode, and each plot can be used in a paper as it is.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

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
WIDTH, HALF = 960, 480  # units of a drawing of full page width, and of one of two side by side
_LETTER, _LINE = 7.3, 16  # mean width of a character and height of a line of the drawing's text
LABEL = 26  # most characters in a line of an axis label; longer words stay whole

Place = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: What it shows, with its unit.
        low: Value at its beginning; ``high`` is the one at its end.
        ticks: (value, label); a tick without a label is only a faint line.
        log: Whether equal factors are equal distances.
        names: Names of the values 0, 1, ...; () if values are numbers.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    names: tuple[str, ...] = ()

    def share(self, value: float) -> float:
        """Return a value's position, 0 at the beginning and 1 at the end; what a logarithm cannot show is at 0."""
        low, high = self.low, self.high
        if self.log:
            low, value, high = (math.log10(one) for one in (low, max(value, low), high))
        return (value - low) / (high - low)

    def text(self, value: float, digits: int = 10) -> str:
        """Return the name of a value, or the number with that many significant digits."""
        return self.names[int(value)] if self.names else f"{value:.{digits}g}"


def linear(
    title: str, values: Iterable[float], *, zero: bool = True, whole: bool = False, percent: bool = False
) -> Axis:
    """Return an axis of numbers with round ticks.

    Args:
        title: Title of the axis.
        values: The values that it must include.
        zero: Whether it begins at 0 (or below).
        whole: Whether values are whole numbers (epochs, counts): ticks are too, and half a unit is added at both ends.
        percent: Whether values are shares to be written in percent.
    """
    known = [*values, *([0.0] if zero else [])]
    low, high = min(known), max(known)
    span = high - low or abs(high) / 10 or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    step = max(1.0, step) if whole else step
    low, high = (low - 0.5, high + 0.5) if whole else (low - 0.04 * span * (low != 0 or not zero), high + 0.06 * span)
    digits = max(0, -math.floor(math.log10(step * (100 if percent else 1)) + 1e-9))
    ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return Axis(title, low, high, tuple((tick, f"{tick:,.{digits}{'%' if percent else 'f'}}") for tick in ticks))


def decades(title: str, values: Iterable[float], low: float | None = None) -> Axis:
    """Return a logarithmic axis from one power of ten to another, with a label at each.

    Args:
        title: Title of the axis.
        values: The values that it must include; only those above 0 count.
        low: Where it begins instead, such as 0.5 for counts, so that a bar of 1 shows.
    """
    logs = [math.log10(value) for value in values if value > 0] or [0.0]
    first = math.floor(min(logs))
    powers = range(first, max(math.ceil(max(logs)), first + 1) + 1)
    ticks = [(10.0**power, f"{10.0**power:,.{max(0, -power)}f}") for power in powers]
    ticks += [(factor * 10.0**power, "") for power in powers[:-1] for factor in range(2, 10)]
    return Axis(title, low or 10.0**first, 10.0 ** powers[-1], tuple(ticks), log=True)


def categories(title: str, names: Sequence[str]) -> Axis:
    """Return an axis with a name at 0, 1, ..."""
    return Axis(title, -0.5, len(names) - 0.5, tuple(enumerate(names)), names=tuple(names))


@dataclass(frozen=True)
class Series:
    """Data that are drawn in one way.

    Attributes:
        kind: line, area (the inside of a line), bars, points or marks (short strokes across a bar).
        points: Places (x, y); None is a gap in a line.
        name: Shown on hovering, and in the CSV; without one, the series is left out of the CSV.
        tint: Colour; "" for that of the text.
        hover: A text per point, shown instead of name and place; for a line, a single one.
        texts: Written at the end of each bar.
        errors: Half lengths of the lines through the ends of bars.
        slot: (n, of): this is the n-th of several bars side by side.
        dash: As SVG's stroke-dasharray; "" for a solid line.
        weight: Width of a line, radius of a point.
        opacity: From 0 to 1.
        legend: Whether its name is above the plot.
    """

    kind: str
    points: Sequence[Place | None]
    name: str = ""
    tint: str = PALETTE[0]
    hover: Sequence[str] = ()
    texts: Sequence[str] = ()
    errors: Sequence[float] = ()
    slot: tuple[int, int] = (0, 1)
    dash: str = ""
    weight: float = 2
    opacity: float = 1
    legend: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: Distinguishes it on the page and names its files.
        title: What it shows: its caption, also for screen readers.
        x: Axis from left to right.
        y: Axis from bottom to top.
        series: What is drawn, the last on top.
        width: In units of the drawing; so is ``height``, without the legend.
        sideways: Whether bars go from left to right.
        notes: (x, y, text) to be written into it.
        table: Rows of the CSV, with a header; () for the points of the series.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    width: int = WIDTH
    height: int = 340
    sideways: bool = False
    notes: Sequence[tuple[float, float, str]] = ()
    table: Sequence[Sequence[object]] = ()

    @cached_property
    def legend(self) -> list[tuple[float, int, Series]]:
        """(x, row, series) of each series with its name above the plot."""
        placed, x, row = [], 12.0, 0
        for series in self.series:
            needs = 44 + _LETTER * len(series.name)
            if series.legend:
                x, row = (12.0, row + 1) if 12 < x > self.width - needs else (x, row)
                placed.append((x, row, series))
                x += needs
        return placed

    @cached_property
    def frame(self) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of the area between the axes."""
        letters = max((len(line) for _, label in self.y.ticks for line in lines(label, LABEL)), default=0)
        rows = max(len(self.below(label)) for _, label in self.x.ticks)
        top = 14 + (22 * (self.legend[-1][1] + 1) if self.legend else 0)
        bottom = top + self.height - 22 - rows * _LINE - (22 if self.x.title else 0)
        half = 0 if self.x.names else max(len(label) for _, label in self.x.ticks) / 2  # of a number at the very end
        return 12 + letters * _LETTER + (28 if self.y.title else 0), self.width - 24 - half * _LETTER, top, bottom

    def below(self, label: str) -> list[str]:
        """Return the lines of a label of the lower axis, fitted to the label's share of the width."""
        return lines(label, max(8, int((self.width - 100) / max(1, len(self.x.names)) / _LETTER)))

    def at(self, x: float, y: float) -> Place:
        """Return a place in units of the drawing."""
        left, right, top, bottom = self.frame
        return round(left + (right - left) * self.x.share(x), 1), round(bottom + (top - bottom) * self.y.share(y), 1)

    def path(self, points: Sequence[Place | None]) -> str:
        """Return a line as SVG's path data, with a new beginning after each gap."""
        pens = ["M" if before is None else "L" for before in [None, *points]]
        return "".join(
            "{}{:g},{:g}".format(pen, *self.at(*point)) for pen, point in zip(pens, points, strict=False) if point
        )

    def bar(self, series: Series, place: Place) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a bar, which is at least one unit thick."""
        start, end = (-0.4 + 0.8 * (series.slot[0] + part) / series.slot[1] for part in (0, 1))
        x, y = place
        if self.sideways:
            (left, bottom), (right, top) = self.at(max(0.0, self.x.low), y + start), self.at(x, y + end)
            return left, top, round(right - left, 1), round(max(bottom - top, 1), 1)
        (left, bottom), (right, top) = self.at(x + start, max(0.0, self.y.low)), self.at(x + end, y)
        return left, top, round(max(right - left, 1), 1), round(bottom - top, 1)

    def hover(self, series: Series, place: int) -> str:
        """Return what is shown on hovering over a point."""
        x, y = series.points[place] or (0, 0)
        value, where = (x, self.y.text(y, 4)) if self.sideways else (y, self.x.text(x, 4))
        return series.hover[place] if series.hover else f"{where}, {series.name}: {value:.4g}".replace("\n", " ")

    def csv(self) -> str:
        """Return the numbers behind the plot."""
        rows: list[Sequence[object]] = [["series", self.x.title or "name", self.y.title or "name", "error"]]
        for one in self.series:
            errors = [f"{error:.10g}" for error in one.errors] or [""] * len(one.points)
            for point, error in zip(one.points, errors, strict=True):
                if point and one.name and one.kind != "area":
                    rows.append([one.name, self.x.text(point[0]), self.y.text(point[1]), error])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.table or rows)
        return text.getvalue()


def pieces(text: str) -> list[str]:
    """Return the parts between which a label may be broken: after blanks, commas, brackets and equals signs."""
    return re.findall(r"[^\s,(=]*[\s,(=]+|[^\s,(=]+$", text)


def lines(text: str, letters: int) -> list[str]:
    """Return a label in lines of at most that many letters, or of one whole word."""
    broken = []
    for part in text.split("\n"):
        broken.append("")
        for piece in pieces(part):
            if broken[-1] and len(broken[-1] + piece.rstrip()) > letters:
                broken.append("")
            broken[-1] += piece
    return [line.strip() for line in broken]
