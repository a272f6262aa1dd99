"""report.html: the figures of an index with a word on how to read each, in one file that needs no network."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex
from recbole_lcrec.io import write_json, write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
p.how { color: #555; max-width: 48rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; } th, td { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 1px solid #999; font-weight: 600; } td:first-child, th:first-child { text-align: left; }
.warning { background: #fff4e5; border-left: 4px solid #d9822b; padding: .5rem .8rem; margin: .5rem 0; }
.good { background: #eef7ee; border-left: 4px solid #3a8f3a; padding: .5rem .8rem; }
code { background: #f3f3f3; padding: 0 .2rem; border-radius: 3px; font-size: .85em; }
details { margin-left: .2rem; } .inner { margin-left: 1.2rem; } .leaf { margin-left: .2rem; }
summary { cursor: pointer; } .count, .token { color: #777; font-size: .9em; } .words { color: #1f5c99; }
#search { font: inherit; padding: .3rem .5rem; width: 22rem; max-width: 100%; }
#found { max-height: 20rem; overflow: auto; margin: .3rem 0 1rem; }
"""
_BLUE, _GREY = "#1f77b4", "#b0b7bf"


def write_report(folder: Path, quality: Mapping[str, Any], index: ItemIndex, titles: Sequence[str]) -> None:
    """Write report.json and report.html.

    Args:
        folder: An existing folder.
        quality: What :func:`index_quality` returned.
        index: The item index.
        titles: One title per item, in its order; may be empty.
    """
    write_json(folder / "report.json", dict(quality))
    write_text(folder / "report.html", page(quality, index, titles))


def page(quality: Mapping[str, Any], index: ItemIndex, titles: Sequence[str]) -> str:
    """Return the page as text; equal input gives equal text."""
    from plotly.offline import get_plotlyjs

    sections = [
        _summary(quality),
        _warnings(quality["warnings"]),
        _levels(quality),
        _collisions(quality),
        _displacement(quality),
        _prefixes(quality),
        _neighbours(quality),
        _tree(index, titles),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Item index</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>\n<body>\n<h1>Item index</h1>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _summary(quality: Mapping[str, Any]) -> str:
    build, before = quality["build"], quality["before_mapping"]
    sizes = " x ".join(map(str, quality["level_sizes"]))
    rows = [
        ["items", f"{quality['items']:,}"],
        ["codes per level", f"{sizes} ({quality['paths']:.3g} possible paths)"],
        ["collision rate before the mapping", f"{before['collision_rate']:.2%}" if before else "not known"],
        ["collision rate now", f"{quality['collision_rate_after']:.2%}"],
    ]
    if build.get("relative_error") is not None:
        rows.append(["reconstruction error", f"{build['relative_error']:.3f} of the mean predictor's"])
    for key, name in (("quantizer", "quantizer"), ("embedding", "embedding"), ("mapping", "mapping")):
        if build.get(key):
            rows.append([name, str(build[key])])
    if build.get("seconds") is not None:
        rows.append(
            ["built in", f"{build['seconds']:.1f} s" + (f", {build['epochs']} epochs" if build.get("epochs") else "")]
        )
    if not before:
        rows.append(["source", "an index file: what was before its mapping is not known"])
    return _table(["", ""], rows) + _how(
        "The collision rate is (items - distinct paths) / items. Before the mapping it says how well the quantizer "
        "tells items apart: under 10% is usual. Now it must be 0: a recommender cannot name items that share a path."
    )


def _warnings(warnings: Sequence[str]) -> str:
    body = "".join(f'<div class="warning">{html.escape(_capital(text))}</div>' for text in warnings)
    return "<h2>Warnings</h2>" + (body or '<div class="good">No warnings.</div>')


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _levels(quality: Mapping[str, Any]) -> str:
    import plotly.graph_objects as go

    before = quality["before_mapping"]["levels"] if quality["before_mapping"] else []
    names = [f"level {n} ({LEVEL_LETTERS[n - 1]})" for n in range(1, len(quality["levels"]) + 1)]
    rows = []
    for number, (name, level) in enumerate(zip(names, quality["levels"], strict=True)):
        old = before[number] if number < len(before) else None
        rows.append(
            [name, f"{level['used']} of {level['size']}", f"{level['perplexity']:.1f}"]
            + [f"{old['perplexity']:.1f}" if old else "-", f"{level['largest_share']:.1%}"]
        )
    figure = go.Figure(layout={"xaxis_title": "code, most frequent first", "yaxis_title": "items on the code"})
    for name, level in zip(names, quality["levels"], strict=True):
        figure.add_scatter(y=level["items_per_code"], mode="lines", name=name)
    figure.update_yaxes(rangemode="tozero")
    return (
        "<h2>Use of the codes</h2>"
        + _table(["", "codes used", "perplexity", "before the mapping", "largest code"], rows)
        + _how(
            "Perplexity is how many codes a level would have if it used them all equally often. A curve that falls to "
            "0 early has codes that no item uses; a steep start means that few codes hold most items. A catalogue "
            "with fewer than four items per code uses only part of the upper levels on purpose: with as many codes "
            "as items, the first code would be the item's name."
        )
        + _figure(figure, "levels")
    )


def _collisions(quality: Mapping[str, Any]) -> str:
    import plotly.graph_objects as go

    before = quality["before_mapping"]
    if not before:
        return ""
    parts = ["<h2>Collisions before the mapping</h2>"]
    equal = before["equal_embeddings"]
    parts.append(
        _table(
            ["", "items"],
            [
                ["sharing a path with another item", f"{before['colliding_items']:,}"],
                ["of these, with the same title as another", f"{before['equal_titles']:,}"],
                ["of these, with the same embedding as another", "-" if equal is None else f"{equal:,}"],
                ["prefixes with more items than last codes", f"{before['over_full_prefixes']:.2%} of the prefixes"],
            ],
        )
    )
    if before["group_sizes"]:
        figure = go.Figure(layout={"xaxis_title": "items that shared one path", "yaxis_title": "groups of that size"})
        figure.add_bar(
            x=[size for size, _ in before["group_sizes"]], y=[n for _, n in before["group_sizes"]], marker_color=_BLUE
        )
        parts.append(_figure(figure, "groups"))
        lines = []
        for group in before["largest_groups"]:
            examples = "; ".join(
                f"{textwrap.shorten(one['title'], 90, placeholder=' ...') or '(no title)'} [{one['item']}]"
                for one in group["examples"]
            )
            lines.append(f"<li>{group['items']} items: {html.escape(examples)}</li>")
        parts.append(f"<p>The largest groups:</p><ol>{''.join(lines)}</ol>")
    parts.append(
        _how(
            "Pairs of very similar items are normal. Items with the same title or embedding are often duplicates in "
            "the data: whether to merge them is a question to the catalogue, not to the index."
        )
    )
    return "".join(parts)


def _displacement(quality: Mapping[str, Any]) -> str:
    import plotly.graph_objects as go

    moved = quality["displacement"]
    if not moved:
        return ""
    figure = go.Figure(
        layout={
            "xaxis_title": "last codes that are nearer than the one assigned (20: 20 or more)",
            "yaxis_title": "items",
        }
    )
    figure.add_bar(x=[rank for rank, _ in moved["ranks"]], y=[n for _, n in moved["ranks"]], marker_color=_BLUE)
    figure.update_yaxes(type="log", dtick=1)
    rows = [
        ["items that got another last code or prefix", "-" if moved["moved"] is None else f"{moved['moved']:,}"],
        ["of these, moved to another prefix", "-" if moved["spilled"] is None else f"{moved['spilled']:,}"],
        ["mean rank of the assigned last code", f"{moved['mean_rank']:.3f}"],
    ]
    return (
        "<h2>What the mapping changed</h2>"
        + _table(["", ""], rows)
        + _how(
            "Rank 0 is an item's nearest code. The fewer items stand to the right, the less was lost by uniqueness."
        )
        + _figure(figure, "ranks")
    )


def _prefixes(quality: Mapping[str, Any]) -> str:
    rows = [
        [f"first {one['length']}" if one["length"] > 1 else "first code", f"{one['distinct']:,}"]
        + [f"{one[key]:,.0f}" for key in ("items_median", "items_90%", "items_99%", "items_max")]
        for one in quality["prefixes"]
    ]
    return (
        "<h2>Prefixes</h2>"
        + _table(["codes", "distinct prefixes", "items: median", "90%", "99%", "most"], rows)
        + _how(
            "How many items share their first codes. Beam search decides level by level: prefixes with a handful of "
            "items after two or three codes make the last decisions easy and leave something to learn in the first."
        )
    )


def _neighbours(quality: Mapping[str, Any]) -> str:
    import plotly.graph_objects as go

    found = quality["neighbours"]
    head = "<h2>Do neighbours share codes?</h2>"
    if not found:
        return head + _how("Not known: there are no embeddings beside this index, or too few items.")
    names = [f"first {one['codes']}" if one["codes"] > 1 else "first code" for one in found["shared_codes"]]
    figure = go.Figure(layout={"xaxis_title": "codes shared", "yaxis_title": "share of the nearest neighbours"})
    for key, name, color in (("share", "nearest neighbours", _BLUE), ("chance", "any two items", _GREY)):
        figure.add_bar(x=names, y=[one[key] for one in found["shared_codes"]], name=name, marker_color=color)
    figure.update_yaxes(tickformat=".0%")
    rows = [
        [name, f"{one['share']:.1%}", f"{one['chance']:.2%}", "-" if one["lift"] is None else f"{one['lift']:,.0f}"]
        for name, one in zip(names, found["shared_codes"], strict=True)
    ]
    return (
        head
        + _table(["codes shared", "nearest neighbours", "by chance", "times likelier"], rows)
        + _how(
            f"For {found['queries']:,} items: how many of their {found['neighbours']} nearest items (cosine of the "
            "embeddings) share their first codes. Semantic codes share far more than chance; random paths share what "
            "chance gives, and a model learns a third to a half less from them."
        )
        + _figure(figure, "neighbours")
    )


def _tree(index: ItemIndex, titles: Sequence[str]) -> str:
    order = sorted(range(len(index)), key=lambda row: tuple(index.codes[row].tolist()))
    rows = [[index.codes[row].tolist(), index.items[row], titles[row]] for row in order]
    data = json.dumps({"levels": len(index.level_sizes), "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    # nothing in a title may end the script element
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    script = (Path(__file__).parent / "tree.js").read_text(encoding="utf-8")
    return (
        "<h2>The items under each prefix</h2>"
        + _how("Open a code to see what its items have in common; blue words are frequent here and rare elsewhere.")
        + '<input id="search" type="search" placeholder="search titles, or an item token" aria-label="search">'
        + '<div id="found"></div><div id="tree"></div>'
        + f'<script type="application/json" id="tree-data">{data}</script><script>{script}</script>'
    )


def _how(text: str) -> str:
    return f'<p class="how">{html.escape(text)}</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if any(head) else ''}<tbody>{body}</tbody></table>"


def _figure(figure: Any, name: str) -> str:
    figure.update_layout(
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": 1.1},
    )
    return figure.to_html(
        include_plotlyjs=False, full_html=False, div_id=f"figure-{name}", config={"displaylogo": False}
    )
