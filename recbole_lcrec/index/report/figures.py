"""The plots of the quality report."""

from __future__ import annotations

from typing import Any

from recbole_lcrec.pages.plots import HALF, PALETTE, Place, Plot, Series, categories, decades, linear

AFTER, BEFORE, CHANCE = PALETTE[0], PALETTE[1], PALETTE[-1]


def plots(quality: dict[str, Any]) -> dict[str, Any]:
    """Return all plots by name; None for those without data."""
    groups = quality["collisions"].get("group_sizes")
    ranks = ((quality["mapping"] or {}).get("ranks") or {}).get("histogram")
    near = quality["neighbours"]
    return {
        "levels": [_code_use(level, quality["items"]) for level in quality["levels"]],
        "prefixes": _prefixes(quality["prefixes"], quality["items"]),
        "groups": groups and _counts("groups", "Groups of items that shared a path, by size", groups,
                                     "items that share one path before the mapping", "groups", BEFORE),
        "ranks": ranks and _counts("ranks", "How many nearer codes displaced items passed over", ranks,
                                   "codes nearer to the item than the one it got", "displaced items", AFTER),
        "neighbours": near and _neighbours(near["prefixes"]),
    }  # fmt: skip


def _code_use(level: dict[str, Any], n_items: int) -> Plot:
    """Return items per code, most frequent code first."""
    series, most = [], 0
    for name, tint in (("after", AFTER), ("before", BEFORE)):
        if level[name]:
            counts = sorted((count for count in level[name]["items_per_code"] if count), reverse=True)
            most = max(most, counts[0])
            steps: list[Place] = [(0.5, 0)]
            for rank, count in enumerate(counts, 1):  # from edge to edge, so that a single code is a bar, not a dot
                steps += [(rank - 0.5, count), (rank + 0.5, count)]
            steps.append((len(counts) + 0.5, 0))
            if name == "after":
                series.append(Series("area", steps, tint=tint, opacity=0.25))
            dash = "" if name == "after" else "4 3"
            series.append(Series("line", steps, f"{name} the mapping", tint, dash=dash, weight=1.5, legend=True))
    even = n_items / level["expected"]
    series.append(Series("line", [(0.5, even), (level["size"] + 0.5, even)], "even use", "", dash="2 4", weight=1))
    title = f"Level {level['level']}: items per code, of {level['size']:,} codes"
    x = linear("codes, most frequent first", [1, level["size"]], zero=False, whole=True)
    y = linear("items per code", [most, even])
    return Plot(f"codes-{level['level']}", title, x, y, series, width=HALF, height=280, table=_code_rows(level))


def _code_rows(level: dict[str, Any]) -> list[list[object]]:
    sides = [name for name in ("before", "after") if level[name]]
    counts = zip(*(level[name]["items_per_code"] for name in sides), strict=True)
    codes = [[f"<{level['letter']}_{code}>", *found] for code, found in enumerate(counts)]
    return [["code", *(f"items {name} the mapping" for name in sides)], *codes]


def _prefixes(prefixes: list[dict[str, Any]], n_items: int) -> Plot:
    series = []
    for name, tint in (("before", BEFORE), ("after", AFTER)):
        points = [(prefix["length"] - 1, prefix[name]["distinct"]) for prefix in prefixes if prefix[name]]
        if points:
            slot = (int(name == "after"), 2)
            series.append(Series("bars", points, f"{name} the mapping", tint, slot=slot, legend=True))
    ends = [(-0.5, n_items), (len(prefixes) - 0.5, n_items)]
    series.append(Series("line", ends, "items", "", dash="2 4", weight=1))
    x = categories("length of the prefix (codes)", [str(prefix["length"]) for prefix in prefixes])
    y = linear("distinct prefixes", [n_items])
    notes = [(-0.5, n_items, f"{n_items:,} items")]
    return Plot("prefixes", "Distinct prefixes by length", x, y, series, height=300, notes=notes)


def _counts(name: str, title: str, counts: list[list[int]], x_title: str, y_title: str, tint: str) -> Plot:
    """Return a bar per whole number, on a logarithmic scale if counts differ by a factor of more than a hundred."""
    points = [(float(number), float(count)) for number, count in counts]
    heights = [count for _, count in points]
    spread = max(heights) > 100 * min(heights)
    y = decades(f"{y_title} (logarithmic)", heights, 0.5) if spread else linear(y_title, heights)
    x = linear(x_title, [number for number, _ in points], zero=False, whole=True)
    return Plot(name, title, x, y, [Series("bars", points, y_title, tint)], height=280)


def _neighbours(prefixes: list[dict[str, Any]]) -> Plot:
    series = []
    kinds = (("share", "near neighbours", AFTER), ("chance", "random pairs", CHANCE))
    for number, (key, name, tint) in enumerate(kinds):
        points = [(float(place), prefix[key]) for place, prefix in enumerate(prefixes)]
        texts = [f"{100 * prefix[key]:.2g}%" for prefix in prefixes]
        series.append(Series("bars", points, name, tint, texts=texts, slot=(number, 2), legend=True))
    names = [f"first {prefix['length']} codes" if prefix["length"] > 1 else "first code" for prefix in prefixes]
    y = linear("share of pairs", [prefix[key] for prefix in prefixes for key in ("share", "chance")], percent=True)
    title = "Near neighbours and random pairs that share their first codes"
    return Plot("neighbours", title, categories("what the pair shares", names), y, series, height=300)
