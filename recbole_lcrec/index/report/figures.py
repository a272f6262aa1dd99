"""The report's figures, drawn by plotly: one look for all, axes with units, no network."""

from __future__ import annotations

import math
from typing import Any

from recbole_lcrec.webpage import INK, figure_html

BEFORE, AFTER, CHANCE = "#c4813d", "#3f7cac", "#b9c0c7"


def code_use_figure(levels: list[dict[str, Any]]) -> str:
    """Return items per code, most frequent code first, one panel per level."""
    from plotly.subplots import make_subplots

    columns = 2
    rows = (len(levels) + 1) // columns
    names = [f"Level {level['level']}: {level['size']:,} codes" for level in levels]
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=names, vertical_spacing=0.5 / (rows + 0.6))
    for place, level in enumerate(levels):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for name, colour in (("after", AFTER), ("before", BEFORE)):
            if level[name]:
                figure.add_trace(_ranked(level, name, colour, legend=place == 0), **where)
        even = sum(level["after"]["items_per_code"]) / level["expected"]
        figure.add_hline(y=even, line={"dash": "dot", "color": INK, "width": 1}, **where)
        figure.update_xaxes(title_text="codes, most frequent first", range=[0, level["size"] + 1], **where)
        figure.update_yaxes(title_text="items per code", rangemode="tozero", **where)
    return figure_html(figure, "codes", 290 * rows + 40)


def _ranked(level: dict[str, Any], name: str, colour: str, *, legend: bool) -> Any:
    import plotly.graph_objects as go

    counts = level[name]["items_per_code"]
    ranked = [code for code in sorted(range(len(counts)), key=lambda code: (-counts[code], code)) if counts[code]]
    return go.Scatter(
        # steps from edge to edge, so that a single code is drawn as a bar and not as a point
        x=[rank + 0.5 for rank in range(len(ranked) + 1)],
        y=[*(counts[code] for code in ranked), 0],
        text=[*(f"code {level['letter']}_{code}" for code in ranked), "further codes"],
        hovertemplate="%{text}: %{y} items",
        mode="lines",
        line={"shape": "hv", "color": colour, "width": 1.5, "dash": "solid" if name == "after" else "4px,3px"},
        fill="tozeroy" if name == "after" else None,
        fillcolor="rgba(63, 124, 172, 0.25)",
        name=f"{name} the mapping",
        legendgroup=name,
        showlegend=legend,
    )


def prefix_figure(prefixes: list[dict[str, Any]], n_items: int) -> str:
    """Return distinct prefixes by length."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, colour in (("before", BEFORE), ("after", AFTER)):
        known = [prefix for prefix in prefixes if prefix[name]]
        if known:
            figure.add_bar(
                x=[prefix["length"] for prefix in known],
                y=[prefix[name]["distinct"] for prefix in known],
                marker_color=colour,
                name=f"{name} the mapping",
                hovertemplate="%{y:,} distinct prefixes",
            )
    figure.add_hline(
        y=n_items, line={"dash": "dot", "color": INK, "width": 1},
        annotation_text=f"{n_items:,} items", annotation_position="top left",
    )  # fmt: skip
    figure.update_xaxes(title_text="length of the prefix (codes)", dtick=1)
    figure.update_yaxes(title_text="distinct prefixes", rangemode="tozero")
    return figure_html(figure, "prefixes", 320)


def group_figure(group_sizes: list[list[int]]) -> str:
    """Return how many groups of each size shared a path before the mapping."""
    sizes, counts = zip(*group_sizes, strict=True)
    return _bars("groups", sizes, counts, "items that share one path before the mapping", "groups", BEFORE)


def rank_figure(histogram: list[list[int]]) -> str:
    """Return how many nearer codes displaced items had to pass over."""
    ranks, counts = zip(*histogram, strict=True)
    title = "codes nearer to the item than the one it got"
    return _bars("ranks", ranks, counts, title, "displaced items", AFTER)


def _bars(name: str, x: Any, y: Any, x_title: str, y_title: str, colour: str) -> str:
    import plotly.graph_objects as go

    figure = go.Figure(go.Bar(x=list(x), y=list(y), marker_color=colour, hovertemplate=f"%{{x}}: %{{y:,}} {y_title}"))
    wide = max(x) - min(x) > 12
    spread = max(y) > 100 * min(y)
    figure.update_xaxes(title_text=x_title, **({} if wide else {"dtick": 1}))
    figure.update_yaxes(title_text=y_title + (" (logarithmic)" if spread else ""))
    if spread:
        figure.update_yaxes(type="log", dtick=1, range=[-0.3, math.log10(max(y)) + 0.1])  # a bar of 1 shows
    return figure_html(figure, name, 280, top=24)


def neighbour_figure(neighbours: dict[str, Any]) -> str:
    """Return the share of near neighbours that share first codes, beside random pairs."""
    import plotly.graph_objects as go

    prefixes = neighbours["prefixes"]
    lengths = [f"first {prefix['length']} codes" if prefix["length"] > 1 else "first code" for prefix in prefixes]
    figure = go.Figure()
    for key, name, colour in (("share", "near neighbours", AFTER), ("chance", "random pairs", CHANCE)):
        figure.add_bar(
            x=lengths,
            y=[100 * prefix[key] for prefix in prefixes],
            text=[f"{100 * prefix[key]:.2g}%" for prefix in prefixes],
            textposition="outside",
            cliponaxis=False,
            marker_color=colour,
            name=name,
            hovertemplate="%{y:.3f}% of pairs",
        )
    figure.update_xaxes(title_text="what the pair shares")
    figure.update_yaxes(title_text="share of pairs (%)", rangemode="tozero")
    return figure_html(figure, "neighbours", 320)
