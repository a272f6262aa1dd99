"""The texts of items that were added to a finished run: its data set does not have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.run_files import NEW_ITEMS

_FIELDS = ("item", "title", "description")


def write_new_items(folder: Path, text: ItemText, items: Sequence[str]) -> None:
    """Write items with their texts, in their order at the end of the index."""
    rows = [text.rows[item] for item in items]
    values = zip(items, (text.titles[row] for row in rows), (text.descriptions[row] for row in rows), strict=True)
    write_json(folder / NEW_ITEMS, [dict(zip(_FIELDS, one, strict=True)) for one in values])


def with_new_items(text: ItemText, run: Path) -> tuple[ItemText, int]:
    """Return a data set's text, extended by the items that were added to a run, and the number of added items.

    Items that the data set has by now keep the data set's text.

    Raises:
        UserError: If the run's file of added items cannot be read.
    """
    path = run / NEW_ITEMS
    if not path.is_file():
        return text, 0
    try:
        entries = [tuple(str(one[name]) for name in _FIELDS) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error}). Save the run again.") from error
    new = [entry for entry in entries if entry[0] not in text.rows]
    if not new:
        return text, len(entries)
    items, titles, descriptions = zip(*new, strict=True)
    return text.extended(items, titles, descriptions), len(entries)
