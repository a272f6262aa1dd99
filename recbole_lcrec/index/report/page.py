"""The quality report as one HTML page: the rows that templates/index.html shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex
from recbole_lcrec.index.report import figures
from recbole_lcrec.index.report.advice import AVOIDABLE_COLLISIONS, DUPLICATES
from recbole_lcrec.io import write_json, write_text
from recbole_lcrec.pages import render, share

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_SECTIONS = (
    ("warnings", "Warnings"),
    ("questions", "Common questions"),
    ("code_use", "Use of codes"),
    ("prefix", "Prefixes"),
    ("collisions", "Collisions and duplicates"),
    ("mapping", "Displacement by the mapping"),
    ("reconstruction", "Reconstruction"),
    ("neighbour", "Neighbours"),
    ("browse", "All items as a tree"),
)
Rows = list[list[object]]


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
    return render(
        "index.html",
        title="Item index: quality report",
        sections=_SECTIONS,
        quality=quality,
        summary=_summary(quality),
        missing=_missing(quality),
        limits={"collisions": AVOIDABLE_COLLISIONS, "duplicates": DUPLICATES},
        known=_known(quality),
        plots=figures.plots(quality),
        use_rows=_use_rows(quality),
        prefix_rows=_prefix_rows(quality),
        collision_rows=_collision_rows(quality),
        mapping_rows=_mapping_rows(quality),
        reconstruction_rows=_reconstruction_rows(quality),
        neighbour_rows=_neighbour_rows(quality),
        tree=tree_data(index, titles),
    )


def tree_data(index: ItemIndex, titles: Sequence[str]) -> dict[str, Any]:
    """Return the items, their titles and their codes (flattened), all sorted by path, for the page's script."""
    assert len(titles) == len(index)
    order = np.lexsort(index.codes.T[::-1])
    return {
        "letters": LEVEL_LETTERS[: index.codes.shape[1]],
        "items": [index.items[row] for row in order],
        "titles": [titles[row] for row in order],
        "codes": index.codes[order].ravel().tolist(),
    }


def _summary(quality: dict[str, Any]) -> list[tuple[str, str]]:
    sizes, collisions = quality["level_sizes"], quality["collisions"]
    relative = (quality["reconstruction"] or {}).get("relative_error")
    near = (quality["neighbours"] or {}).get("prefixes")
    return [
        (f"{quality['items']:,}", "items"),
        (
            f"{len(sizes)} × {sizes[0]:,}" if len(set(sizes)) == 1 else " × ".join(f"{size:,}" for size in sizes),
            "levels × codes",
        ),
        (share(collisions["rate_before"]), "collisions before the mapping"),
        (share(collisions["rate_after"]), "collisions in the index"),
        ("unknown" if relative is None else f"{relative:.2f}", "relative reconstruction error"),
        (share(near[0]["share"]) if near else "unknown", "near neighbours with the same first code"),
    ]


def _missing(quality: dict[str, Any]) -> list[str]:
    """Return which inputs were not there, and what is left out for it."""
    lacks = {
        "embeddings": "embeddings (as for an index that was loaded from a file): nothing is said of neighbours",
        "nearest_codes": "the codes before the mapping: nothing is said of collisions and of what the mapping moved",
        "titles": f"titles of any of the {quality['items']:,} items: the tree shows item tokens only",
    }
    return [text for name, text in lacks.items() if not quality["inputs"][name]]


def _known(quality: dict[str, Any]) -> list[str]:
    """Return what tells one index from another."""
    relative = (quality["reconstruction"] or {}).get("relative_error")
    rate = quality["collisions"]["rate_before"]
    known = [] if relative is None else [f"relative error {relative:.3f}"]
    known += [] if rate is None else [f"collision rate before the mapping {rate:.3f}"]
    near = (quality["neighbours"] or {}).get("prefixes") or []
    return known + [f"lift {p['lift']:,.0f} at prefix length {p['length']}" for p in near if p["lift"] is not None]


def _use_rows(quality: dict[str, Any]) -> Rows:
    return [
        [level["level"], when, f"{use['used']:,} of {level['size']:,}", f"{use['perplexity']:,.1f}",
         use["top_code"], share(use["top_share"])]
        for level in quality["levels"]
        for when, use in _before_and_after(level)
    ]  # fmt: skip


def _prefix_rows(quality: dict[str, Any]) -> Rows:
    return [
        [prefix["length"], when, *(f"{use[name]:,}" for name in ("distinct", "median", "p90", "p99", "max")),
         f"{use['mean']:,.1f}", share(use["alone"])]
        for prefix in quality["prefixes"]
        for when, use in _before_and_after(prefix)
    ]  # fmt: skip


def _collision_rows(quality: dict[str, Any]) -> Rows:
    found, doubles, n = quality["collisions"], quality["duplicates"], quality["items"]
    rows: Rows = []
    if found["rate_before"] is not None:
        rows = [
            ["collision rate before the mapping", share(found["rate_before"])],
            ["of it, items with equal embeddings", share(found["rate_equal_embeddings"])],
            ["of it, items with equal titles", share(found["rate_equal_titles"])],
            ["collision rate of the index", share(found["rate_after"])],
            ["groups of items that shared a path", f"{found['groups']:,} with {found['items']:,} items"],
        ]
        for name in ("embeddings", "titles"):
            if (count := found[f"groups_equal_{name}"]) is not None:
                rows.append([f"groups in which all {name} are equal", f"{count:,}"])
    names = {
        "equal_titles": "items with the title of an earlier item",
        "equal_embeddings": "items with the embedding of an earlier item",
        "empty_titles": "items without a title",
    }
    return rows + [[text, f"{doubles[key]:,} of {n:,}"] for key, text in names.items() if doubles[key] is not None]


def _mapping_rows(quality: dict[str, Any]) -> Rows:
    mapping, rows = quality["mapping"] or {}, []
    for name, text in (("moved", "items whose codes the mapping changed"), ("spilled", "of them, left their prefix")):
        if mapping.get(name) is not None:
            rows.append([text, f"{mapping[name]:,} ({share(mapping[name] / quality['items'])})"])
    if ranks := mapping.get("ranks"):
        rows.append(["displaced items whose distance rank is known", f"{ranks['displaced']:,}"])
        if ranks["displaced"]:
            passed = f"{ranks['median']:,}; {ranks['p90']:,}; {ranks['max']:,}"
            rows.append(["nearer codes passed over: median; 90%; most", passed])
    return rows


def _reconstruction_rows(quality: dict[str, Any]) -> Rows:
    names = {
        "reconstruction_error": "mean squared error of the embedding rebuilt from the codes",
        "mean_predictor_error": "the same for always predicting the mean embedding",
        "relative_error": "their quotient",
    }
    values = quality["reconstruction"] or {}
    return [[text, f"{values[name]:.4g}"] for name, text in names.items() if values.get(name) is not None]


def _neighbour_rows(quality: dict[str, Any]) -> Rows:
    return [
        [prefix["length"], share(prefix["share"]), share(prefix["chance"]),
         "unknown" if prefix["lift"] is None else f"{prefix['lift']:,.1f} ×"]
        for prefix in (quality["neighbours"] or {}).get("prefixes", [])
    ]  # fmt: skip


def _before_and_after(measured: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what is known of the two sides of the mapping, with a name; one entry where it changed nothing."""
    before, after = measured["before"], measured["after"]
    if before is None:
        return [("after", after)]
    return [("unchanged", after)] if before == after else [("before", before), ("after", after)]
