"""Plots as plain data: axes with ticks, and series of points. templates/plot.svg draws them.

Drawn as SVG inside the page and not by a library in JavaScript: a page is small, follows the reader's light or dark
mode, and each plot is a file for a paper as it stands.
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
WIDTH, HALF = 960, 480  # units of a drawing that takes the whole page, and of one of two side by side
_LETTER, _LINE = 7.3, 16  # mean width of a character and height of a line of the drawing's text
_LABEL = 26  # most characters in a line of a label beside an axis; longer words stay whole

Place = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: What it shows, with its unit.
        low: Value at its beginning; ``high`` that at its end.
        ticks: (value, label); a tick without a label is only a faint line.
        log: Whether equal factors are equal distances.
        names: Of the values 0, 1, ...; () where values are numbers.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    names: tuple[str, ...] = ()

    def share(self, value: float) -> float:
        """Return where a value stands, 0 at the beginning and 1 at the end; what a logarithm cannot show is at 0."""
        low, high = self.low, self.high
        if self.log:
            low, value, high = (math.log10(one) for one in (low, max(value, low), high))
        return (value - low) / (high - low)


def linear(
    title: str, values: Iterable[float], *, zero: bool = True, whole: bool = False, percent: bool = False
) -> Axis:
    """Return an axis of numbers with round ticks.

    Args:
        title: Of the axis.
        values: What it has to hold.
        zero: Whether it begins at 0 (or below).
        whole: Whether values are whole numbers (epochs, counts of codes): ticks are, too, and half a unit is left free.
        percent: Whether values are shares to be written in percent.
    """
    known = [*values, *([0.0] if zero else [])]
    low, high = min(known), max(known)
    if low == high:
        low, high = (low, low + 1) if zero or whole else (low - abs(low) / 10 - 1e-9, low + abs(low) / 10 + 1e-9)
        high = low if whole and not zero else high
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    step = max(1.0, step) if whole else step
    low, high = (low - 0.5, high + 0.5) if whole else (low - (0 if low == 0 else 0.04 * span), high + 0.06 * span)
    digits = max(0, -math.floor(math.log10(step * (100 if percent else 1)) + 1e-9))
    ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    kind = f",.{digits}{'%' if percent else 'f'}"
    return Axis(title, low, high, tuple((tick, f"{tick:{kind}}") for tick in ticks))


def decades(title: str, values: Iterable[float], low: float | None = None) -> Axis:
    """Return a logarithmic axis from one power of ten to another, with a label at each.

    Args:
        title: Of the axis.
        values: What it has to hold; only those above 0 count.
        low: Where it begins instead, such as 0.5 for counts, so that a bar of 1 shows.
    """
    known = [value for value in values if value > 0] or [1.0]
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    last = max(last, first + 1)
    powers = range(first, last + 1)
    ticks = [(10.0**power, f"{10.0**power:,.{max(0, -power)}f}") for power in powers]
    ticks += [(factor * 10.0**power, "") for power in powers[:-1] for factor in range(2, 10)]
    return Axis(title, low or 10.0**first, 10.0**last, tuple(ticks), log=True)


def categories(title: str, names: Sequence[str]) -> Axis:
    """Return an axis with a name at 0, 1, ..."""
    return Axis(title, -0.5, len(names) - 0.5, tuple(enumerate(names)), names=tuple(names))


@dataclass(frozen=True)
class Series:
    """What is drawn in one way.

    Attributes:
        kind: line, area (the inside of a line), bars, points or marks (short strokes across a bar).
        points: Places (x, y); None is a gap in a line.
        name: What it is, in the CSV and where one points at it; without one it is left out of the CSV.
        tint: Colour; "" for that of the text.
        hover: One text per point, shown where one points at it.
        texts: Written at the end of each bar.
        errors: Half lengths of the lines through the ends of bars.
        slot: (n, of): this is the n-th of so many bars beside each other.
        dash: As SVG's stroke-dasharray; "" for a solid line.
        weight: Width of a line.
        opacity: From 0 to 1.
        legend: Its name above the plot; "" for none.
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
    legend: str = ""


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: Distinguishes it on the page and names its files.
        title: What it shows, its caption and what a screen reader says.
        x: Axis from left to right.
        y: Axis from bottom to top.
        series: What is drawn, the last on top.
        width: In units of the drawing.
        height: In the same, without the legend.
        sideways: Whether bars go from left to right.
        notes: (x, y, text) to be written into it.
        table: Rows of the CSV, with a head; () for the points of the series.
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
    def frame(self) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of the area between the axes."""
        letters = max((len(line) for _, label in self.y.ticks for line in lines(label, _LABEL)), default=0)
        rows = max((len(self.x_label(label)) for _, label in self.x.ticks), default=0)
        left = 12 + letters * _LETTER + (28 if self.y.title else 0)
        top = 14 + (22 * (self.legend[-1][1] + 1) if self.legend else 0)
        return left, self.width - 24, top, top + self.height - 22 - rows * _LINE - (22 if self.x.title else 0)

    @cached_property
    def legend(self) -> list[tuple[float, int, Series]]:
        """(x, row, series) of what has a name in the legend."""
        placed, x, row = [], 12.0, 0
        for series in self.series:
            if series.legend:
                needs = 40 + _LETTER * len(series.legend)
                if x > 12 and x + needs > self.width:
                    x, row = 12.0, row + 1
                placed.append((x, row, series))
                x += needs
        return placed

    def x_label(self, label: str) -> list[str]:
        """Return the lines of a label below the plot."""
        return lines(label, max(8, int((self.width - 100) / max(1, len(self.x.names)) / _LETTER)))

    def y_label(self, label: str) -> list[str]:
        """Return the lines of a label beside the plot."""
        return lines(label, _LABEL)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return a place in units of the drawing."""
        left, right, top, bottom = self.frame
        return round(left + (right - left) * self.x.share(x), 1), round(bottom + (top - bottom) * self.y.share(y), 1)

    def path(self, points: Sequence[Place | None]) -> str:
        """Return a line as SVG's path data, with a new beginning after each gap."""
        pen, parts = "M", []
        for point in points:
            if point is not None:
                parts.append("{}{:g},{:g}".format(pen, *self.at(*point)))
            pen = "M" if point is None else "L"
        return "".join(parts)

    def bar(self, series: Series, place: Place) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a bar, which is at least one unit thick."""
        n, of = series.slot
        start, end = -0.4 + 0.8 * n / of, -0.4 + 0.8 * (n + 1) / of
        x, y = place
        if self.sideways:
            (left, low), (right, high) = self.at(max(0.0, self.x.low), y + start), self.at(x, y + end)
        else:
            (left, low), (right, high) = self.at(x + start, max(0.0, self.y.low)), self.at(x + end, y)
        wide, high_ = max(right - left, 0 if self.sideways else 1), max(low - high, 1 if self.sideways else 0)
        return left, high, round(wide, 1), round(high_, 1)

    def csv(self) -> str:
        """Return the numbers behind the plot."""
        text = io.StringIO()
        rows = self.table or [["series", self.x.title or "name", self.y.title or "name", "error"], *self._rows()]
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def _rows(self) -> list[list[object]]:
        def value(axis: Axis, at: float) -> object:
            return axis.names[int(at)] if axis.names else f"{at:.10g}"

        rows = []
        for series in self.series:
            for place, point in enumerate(series.points if series.name and series.kind != "area" else ()):
                if point is not None:
                    error = f"{series.errors[place]:.10g}" if series.errors else ""
                    rows.append([series.name, value(self.x, point[0]), value(self.y, point[1]), error])
        return rows


def pieces(text: str) -> list[str]:
    """Return the parts between which a label may be broken: after blanks, commas, brackets and equals signs."""
    return re.findall(r"[^\s,(=]*[\s,(=]+|[^\s,(=]+$", text)


def lines(text: str, letters: int) -> list[str]:
    """Return a label in lines of at most so many letters, or of one whole word."""
    broken = [""]
    for part in text.split("\n"):
        for piece in pieces(part):
            if broken[-1] and len(broken[-1] + piece.rstrip()) > letters:
                broken.append("")
            broken[-1] += piece
        broken.append("")
    return [line.strip() for line in broken[:-1]]
