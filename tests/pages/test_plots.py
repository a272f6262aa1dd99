"""Axes, drawings and downloads of the reports' plots."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from recbole_lcrec.pages import _environment, display, render
from recbole_lcrec.pages.plots import Axis, Plot, Series, categories, decades, linear, lines

NASTY = "</script><b>\"a\" & 'b'"


def labels(axis: Axis) -> list[str]:
    return [label for _, label in axis.ticks if label]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.3, 42.0], ["0.1", "1", "10", "100"]),
        ([2.0, 3.0], ["1", "10"]),
        ([1.0], ["1", "10"]),
        ([0.0, 0.02], ["0.01", "0.1"]),
        ([], ["1", "10"]),
        ([5000], ["1,000", "10,000"]),
    ],
)
def test_a_logarithmic_axis_goes_from_decade_to_decade(values: list[float], expected: list[str]) -> None:
    axis = decades("minutes", values)
    assert labels(axis) == expected
    assert all(0 <= axis.share(value) <= 1 for value in values)
    powers = [axis.share(value) for value, label in axis.ticks if label]
    assert [after - before for before, after in zip(powers, powers[1:], strict=False)] == pytest.approx(
        [1 / (len(powers) - 1)] * (len(powers) - 1)
    )


@pytest.mark.parametrize("last", [1, 2, 3, 7, 10, 31, 300])
def test_epochs_are_whole(last: int) -> None:
    axis = linear("epochs", range(1, last + 1), zero=False, whole=True)
    ticks = [float(label) for label in labels(axis)]
    assert ticks and all(tick == int(tick) and 1 <= tick <= last for tick in ticks) and len(ticks) <= 8
    assert 0 < axis.share(1) <= axis.share(last) < 1


@pytest.mark.parametrize("values", [[0.0], [0.05], [0.05, 0.05], [0.0123, 0.0456], [-2.0, 7.0], [1e6]])
@pytest.mark.parametrize("zero", [True, False])
def test_every_value_has_its_place_between_round_ticks(values: list[float], zero: bool) -> None:
    axis = linear("score", values, zero=zero)
    assert all(0 <= axis.share(value) <= 1 for value in [*values, *([0.0] if zero else [])])
    assert all(float(label.replace(",", "")) == pytest.approx(tick, abs=1e-12) for tick, label in axis.ticks)


def test_shares_are_written_in_percent() -> None:
    assert labels(linear("share", [0.0, 1.0], percent=True)) == ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert labels(linear("share", [0.011], percent=True))[1] == "0.2%"


def test_labels_break_between_words_and_never_inside_them() -> None:
    assert lines("SASRec(loss_type=CE, hidden_size=32)", 20) == ["SASRec(loss_type=CE,", "hidden_size=32)"]
    assert lines("Donaudampfschiff", 5) == ["Donaudampfschiff"]
    assert lines("1–4\n(12)", 9) == ["1–4", "(12)"]
    assert lines("", 9) == [""]


def test_a_metric_has_one_spelling() -> None:
    assert [display(name) for name in ("ndcg@10", "NDCG@10", "hit@1", "Recall@5", "giniindex@10", "mrr")] == [
        "NDCG@10", "NDCG@10", "Hit@1", "Recall@5", "GiniIndex@10", "MRR",
    ]  # fmt: skip


def plot() -> Plot:
    bars = Series("bars", [(0, 0.25), (1, 0.5)], NASTY, errors=[0.125, 0.0], legend=True)
    line = Series("line", [(0, 0.1), None, (1, 0.2), (1, 0.3)], "mean", dash="2 4", legend=True)
    dots = Series("points", [(0, 0.1)], hover=[NASTY], weight=4)
    area = Series("area", [(0, 0), (1, 0), (1, 1)], "band")
    x = categories("who", [NASTY, "other"])
    return Plot("scores", f"Scores {NASTY}", x, linear("score", [0.625]), [area, bars, line, dots])


def page(*plots: Plot, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a page that holds nothing but figures."""
    from jinja2 import ChoiceLoader, DictLoader

    source = (
        '{% extends "page.html" %}{% from "parts.html" import figure %}{% set sections = [("one", "One")] %}'
        "{% block one %}{% for plot in plots %}{{ figure(plot) }}{% endfor %}{% endblock %}"
    )
    environment = _environment()
    assert environment.loader is not None
    monkeypatch.setattr(environment, "loader", ChoiceLoader([DictLoader({"test.html": source}), environment.loader]))
    return render("test.html", title=NASTY, plots=plots)


def test_a_figure_is_described_and_can_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(plot(), monkeypatch=monkeypatch)
    assert NASTY not in text and "&lt;/script&gt;" in text
    links = dict(re.findall(r'<a download="([^"]+)" href="([^"]+)"', text))
    assert set(links) == {"scores.svg", "scores.csv"}
    drawing = unquote(links["scores.svg"].removeprefix("data:image/svg+xml;charset=utf-8,"))
    root = ElementTree.fromstring(drawing)  # whole by itself, and well-formed
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("role") == "img"
    assert root.get("aria-label") == f"Scores {NASTY}" and drawing in text
    assert "var(" not in drawing, "programs for drawings know no variables of CSS"
    table = csv.reader(io.StringIO(unquote(links["scores.csv"].removeprefix("data:text/csv;charset=utf-8,"))))
    assert list(table) == [
        ["series", "who", "score", "error"],
        [NASTY, NASTY, "0.25", "0.125"],
        [NASTY, "other", "0.5", "0"],
        ["mean", NASTY, "0.1", ""],
        ["mean", "other", "0.2", ""],
        ["mean", "other", "0.3", ""],
    ]


def test_a_page_is_whole_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(plot(), monkeypatch=monkeypatch)
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    assert set(re.findall(r'(?:src|href)="([^":]*)', text)) == {"#one", "data"}
    assert not re.search(r"url\(|@import", text)
    assert re.search(r'<div class="scroll" tabindex="0" role="region" aria-label="Scores', text)


def test_data_for_a_script_keep_every_string_and_no_markup() -> None:
    strings = [NASTY, "<!--", "\u2028", "\ud800 lone"]
    text = _environment().from_string("{{ strings | tojson }}").render(strings=strings)
    assert not set("<>&\u2028") & set(text) and text.isascii() and json.loads(text) == strings


def test_drawing() -> None:
    one = plot()
    left, right, top, bottom = one.frame
    assert one.at(-0.5, 0) == (round(left, 1), round(bottom, 1)) and one.at(1.5, one.y.high) == (right, round(top, 1))
    assert one.path([(0, 0), None, (1, 0), (1, 0.5)]).count("M") == 2, "a gap begins a new line"
    assert one.legend[0][1] == 0 and len(one.legend) == 2
    bars = one.series[1]
    (x, _), (_, y) = one.at(0, 0), one.at(0, 0.25)
    assert one.bar(bars, (0, 0.25))[1] == y and one.bar(bars, (0, 0.25))[0] < x
    assert one.bar(replace(bars, slot=(1, 2)), (0, 0.25))[0] == pytest.approx(x, abs=0.2)
    wide = Plot("costs", "Costs", decades("minutes", [1, 50_000]), one.y, [])
    assert wide.frame[1] + 7 * len("100,000") / 2 < wide.width, "the last label lies inside"
    many = replace(one, series=[Series("line", [], f"a rather long name {n}", legend=True) for n in range(9)])
    rows = [row for _, row, _ in many.legend]
    assert rows == sorted(rows) and rows[-1] > 0
    assert all(x + 7 * len(series.name) < many.width for x, _, series in many.legend)


def test_no_dot_is_too_small_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(plot(), monkeypatch=monkeypatch)
    assert [float(radius) for radius in re.findall(r'<circle [^>]*\br="([\d.]+)"', text)] == [4.0]
