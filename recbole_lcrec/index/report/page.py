"""The quality report as one HTML page: every figure with a sentence on how to read it, nothing loaded from elsewhere.

A content security policy in the page forbids requests, so that a report can be opened where the catalogue is secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from recbole_lcrec.index.item_index import ItemIndex
from recbole_lcrec.index.report import figures
from recbole_lcrec.index.report.questions import questions_of
from recbole_lcrec.index.report.tree import TREE_CSS, TREE_HTML, TREE_JS, tree_data
from recbole_lcrec.io import write_json, write_text
from recbole_lcrec.webpage import page_head, table

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def write_report(folder: Path, quality: dict[str, Any], index: ItemIndex, titles: Sequence[str]) -> None:
    """Write ``report.json`` and ``report.html``, each whole or not at all; the same input gives the same bytes.

    Args:
        folder: Where they are to lie; it is created, and other files in it are left alone.
        quality: What ``index_quality`` returned for this index.
        index: The index, for the tree.
        titles: One per item of the index, in its order.
    """
    html = report_page(quality, index, titles)
    write_json(Path(folder) / REPORT_JSON, quality)
    write_text(Path(folder) / REPORT_HTML, html)


def report_page(quality: dict[str, Any], index: ItemIndex, titles: Sequence[str]) -> str:
    """Return the page; arguments as for :func:`write_report`."""
    sections = [
        ("warnings", "Warnings", _warnings(quality)),
        ("questions", "Common questions", _questions(quality)),
        ("code-use", "Use of codes", _code_use(quality)),
        ("prefix", "Prefixes", _prefixes(quality)),
        ("collisions", "Collisions and duplicates", _collisions(quality)),
        ("mapping", "Displacement by the mapping", _mapping(quality)),
        ("reconstruction", "Reconstruction", _reconstruction(quality)),
        ("neighbour", "Neighbours", _neighbours(quality)),
        ("browse", "All items as a tree", _TREE_TEXT + TREE_HTML),
    ]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    body = "\n".join(f'<section id="{anchor}"><h2>{title}</h2>{text}</section>' for anchor, title, text in sections)
    return (
        f"{page_head('Item index: quality report', TREE_CSS)}<body>\n"
        f"<main>\n<h1>Item index: quality report</h1>\n{_summary(quality)}\n<nav>{links}</nav>\n{body}\n</main>\n"
        f'<script type="application/json" id="tree-data">{tree_data(index, titles)}</script>\n'
        f"<script>{TREE_JS}</script>\n</body>\n</html>\n"
    )


def _summary(quality: dict[str, Any]) -> str:
    sizes, collisions = quality["level_sizes"], quality["collisions"]
    shape = f"{len(sizes)} × {sizes[0]:,}" if len(set(sizes)) == 1 else " × ".join(f"{size:,}" for size in sizes)
    relative = (quality["reconstruction"] or {}).get("relative_error")
    near = (quality["neighbours"] or {}).get("prefixes")
    tiles = [
        (f"{quality['items']:,}", "items"),
        (shape, "levels × codes"),
        (_share(collisions["rate_before"]), "collisions before the mapping"),
        (_share(collisions["rate_after"]), "collisions in the index"),
        ("unknown" if relative is None else f"{relative:.2f}", "relative reconstruction error"),
        (_share(near[0]["share"]) if near else "unknown", "near neighbours with the same first code"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    return f'<div class="tiles">{cells}</div>{_missing(quality["inputs"], quality["items"])}'


def _missing(inputs: dict[str, Any], n_items: int) -> str:
    """Say which parts are left out, and why."""
    lacks = []
    if not inputs["embeddings"]:
        lacks.append("embeddings (as for an index that was loaded from a file): nothing is said of neighbours")
    if not inputs["nearest_codes"]:
        lacks.append("the codes before the mapping: nothing is said of collisions and of what the mapping moved")
    if not inputs["titles"]:
        lacks.append(f"titles of any of the {n_items:,} items: the tree shows item tokens only")
    return f'<p class="quiet">Not known here: {"; ".join(lacks)}.</p>' if lacks else ""


def _warnings(quality: dict[str, Any]) -> str:
    if not quality["warnings"]:
        return '<p class="good">No warnings.</p>'
    texts = (warning["text"] for warning in quality["warnings"])
    return "".join(f'<p class="warning">{escape(text[0].upper() + text[1:])}</p>' for text in texts)


def _questions(quality: dict[str, Any]) -> str:
    return "".join(
        f"<details><summary>{question}</summary><p>{answer}</p></details>"
        for question, answer in questions_of(quality)
    )


def _code_use(quality: dict[str, Any]) -> str:
    rows = []
    for level in quality["levels"]:
        for when, use in _before_and_after(level):
            rows.append(
                [level["level"], when, f"{use['used']:,} of {level['size']:,}", f"{use['perplexity']:,.1f}",
                 escape(use["top_code"]), _share(use["top_share"])]
            )  # fmt: skip
    head = ["level", "mapping", "codes used", "perplexity", "most frequent code", "its share of the items"]
    return (
        '<p class="read">How to read it: a level is healthy when most codes are used and the curve falls slowly. '
        "Perplexity is the number of codes that would say as much if all were used evenly. A curve that drops to "
        "nothing early means dead codes; a spike at the left means that many items fall on one code. The dotted line "
        "is even use. A small catalogue uses fewer codes by design (about one for every four items). The mapping "
        "changes the last level, and earlier levels only for items whose prefix was over-full.</p>"
        + figures.code_use_figure(quality["levels"])
        + table(head, rows)
    )


def _prefixes(quality: dict[str, Any]) -> str:
    rows = []
    for prefix in quality["prefixes"]:
        for when, use in _before_and_after(prefix):
            counts = [f"{use[name]:,}" for name in ("distinct", "median", "p90", "p99", "max")]
            rows.append([prefix["length"], when, *counts, f"{use['mean']:,.1f}", _share(use["alone"])])
    head = ["length", "mapping", "distinct prefixes", "median items", "90%", "99%", "most", "mean",
            "items alone under theirs"]  # fmt: skip
    full = quality["over_full"]
    note = ""
    if full and not full["prefixes"]:
        note = f"<p>No prefix held more items before the mapping than the last level's {full['room']:,} codes.</p>"
    elif full:
        note = (
            f"<p>{full['prefixes']:,} prefixes ({_share(full['share'])}) held more items before the mapping than the "
            f"{full['room']:,} codes of the last level; {full['surplus_items']:,} items had no room there.</p>"
        )
    return (
        '<p class="read">How to read it: a prefix is the first codes of a path. Items under one prefix should be '
        "alike, so short prefixes should hold many items and long ones few. Where nearly every prefix of two codes "
        "holds one item, the later codes carry no shared meaning; where prefixes of all codes but the last hold more "
        "items than the last level has codes, items must leave.</p>"
        + figures.prefix_figure(quality["prefixes"], quality["items"])
        + table(head, rows)
        + note
    )


def _collisions(quality: dict[str, Any]) -> str:
    collisions, doubles, n = quality["collisions"], quality["duplicates"], quality["items"]
    parts = [
        '<p class="read">How to read it: the collision rate is (items - distinct paths) / items. Before the mapping '
        "it says how many items the quantizer could not tell apart; in the finished index it is 0, as every item has "
        "a path of its own. Items with equal embeddings always collide: that share no training can lower.</p>"
    ]
    facts = [("items with the title of an earlier item", f"{doubles['equal_titles']:,} of {n:,}")]
    if doubles["equal_embeddings"] is not None:
        facts.append(("items with the embedding of an earlier item", f"{doubles['equal_embeddings']:,} of {n:,}"))
    facts.append(("items without a title", f"{doubles['empty_titles']:,} of {n:,}"))
    if collisions["rate_before"] is None:
        parts.append("<p>The codes before the mapping are not known.</p>")
        return "".join(parts) + table([], facts)
    facts = [
        ("collision rate before the mapping", _share(collisions["rate_before"])),
        ("of it, items with equal embeddings", _share(collisions["rate_equal_embeddings"])),
        ("of it, items with equal titles", _share(collisions["rate_equal_titles"])),
        ("collision rate of the index", _share(collisions["rate_after"])),
        ("groups of items that shared a path", f"{collisions['groups']:,} with {collisions['items']:,} items"),
        ("groups in which all titles are equal", f"{collisions['groups_equal_titles']:,}"),
    ] + facts
    if collisions["groups_equal_embeddings"] is not None:
        facts.insert(5, ("groups in which all embeddings are equal", f"{collisions['groups_equal_embeddings']:,}"))
    parts.append(table([], facts))
    if collisions["groups"]:
        parts.append(figures.group_figure(collisions["group_sizes"]))
        parts.append("<h3>The largest groups</h3>" + "".join(map(_group, collisions["largest"])))
    return "".join(parts)


def _group(group: dict[str, Any]) -> str:
    alike = [name for name, key in (("embeddings", "equal_embeddings"), ("titles", "equal_titles")) if group[key]]
    note = f", equal {' and '.join(alike)}" if alike else ""
    lines = "".join(
        f'<li>{escape(example["title"]) or "(no title)"} <span class="quiet">{escape(example["item"])}</span></li>'
        for example in group["examples"]
    )
    left = group["items"] - len(group["examples"])
    more = f'<li class="quiet">and {left:,} more</li>' if left else ""
    return (
        f'<details><summary><span class="path">{escape(group["path"])}</span> {group["items"]:,} items{note}'
        f"</summary><ul>{lines}{more}</ul></details>"
    )


def _mapping(quality: dict[str, Any]) -> str:
    mapping = quality["mapping"]
    if mapping is None:
        return "<p>Not known: the codes before the mapping were not given.</p>"
    facts, figure = [], ""
    for name, text in (("moved", "items whose codes the mapping changed"), ("spilled", "of them, left their prefix")):
        if mapping[name] is not None:
            facts.append((text, f"{mapping[name]:,} ({_share(mapping[name] / quality['items'])})"))
    ranks = mapping["ranks"]
    if ranks:
        facts.append(("displaced items whose distance rank is known", f"{ranks['displaced']:,}"))
    if ranks and ranks["displaced"]:
        passed = f"{ranks['median']:,}; {ranks['p90']:,}; {ranks['max']:,}"
        facts.append(("nearer codes passed over: median; 90%; most", passed))
        figure = figures.rank_figure(ranks["histogram"])
    return (
        '<p class="read">How to read it: where items shared a path, all but one got another last code, at the least '
        "total distance. Few moved items, and few nearer codes passed over, mean that the last codes still say what "
        "an item is like. Items leave their prefix only where it was over-full.</p>" + table([], facts) + figure
    )


def _reconstruction(quality: dict[str, Any]) -> str:
    values = quality["reconstruction"]
    if values is None:
        return "<p>Not known: the report of the quantizer's training was not given.</p>"
    names = {
        "reconstruction_error": "mean squared error of the embedding rebuilt from the codes",
        "mean_predictor_error": "the same for always predicting the mean embedding",
        "relative_error": "their quotient",
    }
    facts = [(text, f"{values[name]:.4g}") for name, text in names.items() if values[name] is not None]
    return (
        '<p class="read">How to read it: a quotient of 1 means that the codes say nothing about the item, 0 that they '
        "say all. An index of 4,344 products that trained well, with 4 × 256 codes, reached 0.39; above 0.8 the "
        "codes are close to noise. Before the mapping; errors are in the scale of the normalised embeddings.</p>"
        + table([], facts)
    )


def _neighbours(quality: dict[str, Any]) -> str:
    near = quality["neighbours"]
    if near is None:
        why = "the embeddings were not given" if not quality["inputs"]["embeddings"] else "too few items"
        return f"<p>Left out: {why}.</p>"
    rows = [
        [prefix["length"], _share(prefix["share"]), _share(prefix["chance"]),
         "unknown" if prefix["lift"] is None else f"{prefix['lift']:,.1f} ×"]
        for prefix in near["prefixes"]
    ]  # fmt: skip
    return (
        f'<p class="read">How to read it: of the {near["k"]} nearest items by cosine of {near["queries"]:,} items, '
        "how many share the first codes, beside random pairs of items. The lift is the quotient of the two. High is "
        "good: the model then can carry over what it learned of one item to those like it. A lift near 1 means codes "
        "that do not follow the text.</p>"
        + figures.neighbour_figure(near)
        + table(["first codes", "near neighbours", "random pairs", "lift"], rows)
    )


def _before_and_after(measured: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what is known of the two sides of the mapping, with a name; one entry where it changed nothing."""
    before, after = measured["before"], measured["after"]
    if before is None:
        return [("after", after)]
    return [("unchanged", after)] if before == after else [("before", before), ("after", after)]


def _share(value: float | None) -> str:
    """Return a share in percent; small ones with two digits that count."""
    if value is None:
        return "unknown"
    return f"{value:.1%}" if value >= 0.01 else f"{100 * value:.2g}%"


_TREE_TEXT = (
    '<p class="read">How to read it: each step is one code, and items under one code should have something in common. '
    "Open a few of the largest codes: if their titles have nothing in common, the model has nothing to learn from "
    "them. A code with a single item is shown with the rest of its path.</p>"
)
