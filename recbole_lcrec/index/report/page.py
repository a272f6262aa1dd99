"""The quality report as one HTML page: what templates/index.html shows of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex
from recbole_lcrec.index.report import figures
from recbole_lcrec.index.report.advice import AVOIDABLE_COLLISIONS, DUPLICATES
from recbole_lcrec.pages import render, share
from recbole_lcrec.utils.files import write_json, write_text

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
Rows = list[list[object]]


def write_report(folder: Path, quality: dict[str, Any], index: ItemIndex, titles: Sequence[str]) -> None:
    """Write ``report.json`` and ``report.html``, each whole or not at all; the same input gives the same bytes.

    Args:
        folder: Where to write them; it is created, and other files in it are left alone.
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
        quality=quality,
        limits={"collisions": AVOIDABLE_COLLISIONS, "duplicates": DUPLICATES},
        plots=figures.plots(quality),
        use_rows=_use_rows(quality),
        prefix_rows=_prefix_rows(quality),
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


def _neighbour_rows(quality: dict[str, Any]) -> Rows:
    return [
        [prefix["length"], share(prefix["share"]), share(prefix["chance"]),
         "unknown" if prefix["lift"] is None else f"{prefix['lift']:,.1f} ×"]
        for prefix in (quality["neighbours"] or {}).get("prefixes", [])
    ]  # fmt: skip


def _before_and_after(measured: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the figures before and after the mapping, each with a name; one entry if it changed nothing."""
    before, after = measured["before"], measured["after"]
    if before is None:
        return [("after", after)]
    return [("unchanged", after)] if before == after else [("before", before), ("after", after)]
