"""The look of our HTML pages, one for all reports: plotly once inside, no network, readable on a laptop.

A content security policy in the page forbids requests, so that a report can be opened where the data are secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

GRID, INK = "#e6e9ec", "#33404d"


def page_head(title: str, css: str = "") -> str:
    """Return everything before ``<body>``.

    Args:
        title: Of the page, plain text.
        css: Styles of this page beside the common ones.
    """
    from plotly.offline import get_plotlyjs

    styles = f"<title>{escape(title)}</title>\n<style>{CSS}{css}</style>\n"
    return f"{_HEAD}{styles}<script>{get_plotlyjs()}</script>\n</head>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells are markup already."""
    top = "<thead><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def figure_html(figure: Any, name: str, height: int, top: int = 64) -> str:
    """Return a plotly figure in the pages' look, without plotly itself.

    Args:
        figure: The figure.
        name: Distinguishes it on the page.
        height: In pixels.
        top: Pixels above the axes, for legend and titles.
    """
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 16, "t": top, "b": 52},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.99, "yanchor": "top", "yref": "container"},
        hoverlabel={"bgcolor": "white"},
        bargap=0.35,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(
        gridcolor=GRID, linecolor=GRID, zeroline=False, showgrid=False, title_standoff=8, title_font_size=13
    )
    figure.update_yaxes(gridcolor=GRID, linecolor=GRID, zeroline=False, title_standoff=8, title_font_size=13)
    figure.update_annotations(font_size=13)
    return figure.to_html(
        include_plotlyjs=False,
        full_html=False,
        div_id=f"figure-{name}",
        default_height=f"{height}px",
        config={"displayModeBar": False, "responsive": True},
    )


_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""

CSS = """
:root { --ink: #26323d; --quiet: #6b7783; --line: #dfe4e8; --paper: #fff; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: #f5f7f8; color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans",
  "DejaVu Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; font-weight: 600; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; font-weight: 600; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.4rem;
  margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .7rem; }
.tiles div { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: .7rem 1rem; }
.tiles b { display: block; font-size: 1.35rem; font-weight: 600; }
.tiles span, .quiet { color: var(--quiet); font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1rem 0; font-size: .95rem; }
nav a { color: #2b5c8a; }
.read { color: #465463; max-width: 52rem; margin-top: 0; }
.warning, .good { border-left: 4px solid #d39b2e; background: #fdf6e3; padding: .6rem .9rem; margin: .5rem 0;
  border-radius: 0 6px 6px 0; overflow-wrap: anywhere; }
.good { border-color: #5a9a68; background: #edf6ef; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--quiet); }
details { border-bottom: 1px solid var(--line); padding: .35rem 0; }
details p, details ul { margin: .4rem 0 .5rem; max-width: 54rem; overflow-wrap: anywhere; }
summary { cursor: pointer; }
"""
