"""The statistics of a conversion, for people."""

from __future__ import annotations

from typing import Any

_SHOWN = 5  # items without metadata named on the screen; all are in the statistics file


def report(statistics: dict[str, Any]) -> str:
    """Return what became of every record and what the data set looks like, as text.

    Args:
        statistics: What ``convert`` returned.
    """
    lines = _fates("interactions", statistics["interactions"])
    lines += [
        "data set",
        f"  users            {statistics['users']:>12,}",
        f"  items            {statistics['items']:>12,}",
        f"  interactions     {statistics['interactions']['written']:>12,}",
        f"  sparsity         {statistics['sparsity']:>12.4%}",
        f"  average length   {statistics['average_length']:>12.2f}",
    ]
    if "item_records" in statistics:
        lines += _fates("items", statistics["item_records"])
        covered = statistics["text_coverage"].items()
        lines.append("text of the items with interactions: " + ", ".join(f"{n} {share:.1%}" for n, share in covered))
        lacking = statistics["items_without_metadata"]
        if lacking:
            names = ", ".join(lacking[:_SHOWN]) + (", ..." if len(lacking) > _SHOWN else "")
            lines.append(f"items without metadata: {len(lacking):,} ({names}; all are in the statistics file)")
        else:
            lines.append("items without metadata: none")
    if "reviews" in statistics:
        lines += _fates("reviews", statistics["reviews"])
    return "\n".join(lines)


def _fates(title: str, counts: dict[str, Any]) -> list[str]:
    lines = [title]
    for name, value in counts.items():
        if name == "rejected":
            lines.append(f"  {'rejected':<22}{sum(value.values()):>12,}")
            lines += [f"    {count:>12,}  {reason}" for reason, count in value.items()]
        else:
            lines.append(f"  {name.replace('_', ' '):<22}{value:>12,}")
    return lines
