"""Reviews of users: the atomic file ``<name>.review``, of which only the pairs that are asked for are kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import ItemText, clean_text, read_columns
from recbole_lcrec.utils.errors import UserError, nearest

logger = logging.getLogger(__name__)


def read_reviews(
    files: DataFiles,
    wanted: Mapping[str, Sequence[int]],
    text: ItemText,
    fields: Sequence[str],
) -> dict[tuple[str, int], str]:
    """Return (user token, catalogue row) -> review of the interactions that are asked for, and of no others.

    A user may have had an item several times, in training and after it. If a pair has more reviews than interactions
    asked for, the earliest are used if the file has times; otherwise none: they could be of a held-out interaction.

    Args:
        files: The data set's files; without ``.review`` there are no reviews.
        wanted: User token -> rows of the user's interactions whose reviews may be read.
        text: The catalogue's text.
        fields: Option ``review_text_fields``; those present are joined.

    Raises:
        UserError: Naming file and line, or the columns that are missing.
    """
    path = files.path("review")
    if not path.is_file():
        return {}
    columns = read_columns(files, "review")
    present = _text_columns(path, columns, fields, (files.user_field, files.item_field))
    asked = {user: Counter(int(row) for row in rows) for user, rows in wanted.items()}
    found: dict[tuple[str, int], list[int]] = {}
    for line, (user, item) in enumerate(zip(columns[files.user_field], columns[files.item_field], strict=True)):
        row = text.rows.get(item, -1)
        if row in asked.get(user, ()):
            found.setdefault((user, row), []).append(line)
    times = columns.get(files.time_field) if files.time_field else None
    reviews, n_unclear = {}, 0
    for (user, row), lines in found.items():
        n_asked = asked[user][row]
        if len(lines) > n_asked:
            n_unclear += times is None
            lines = [] if times is None else sorted(lines, key=lambda line: _time(path, times, line))[:n_asked]
        cells = [clean_text(columns[name][line]) for line in lines for name in present]
        reviews[user, row] = " ".join(filter(None, cells))
    if n_unclear:
        logger.warning(
            "%s: %d pairs of user and item have more reviews than interactions of this phase, and there is no column "
            "%s to tell them apart; theirs are not used.", path.name, n_unclear, files.time_field or "of times",
        )  # fmt: skip
    return {pair: review for pair, review in reviews.items() if review}


def _text_columns(
    path: Path, columns: Mapping[str, Sequence[str]], fields: Sequence[str], required: Sequence[str]
) -> list[str]:
    """Return the text columns that are present.

    Raises:
        UserError: If there is none, or a required column is missing.
    """
    for name in required:
        if name not in columns:
            raise UserError(f"{path}, line 1: no column {name}.{nearest(name, columns)} Found: {', '.join(columns)}.")
    present = [name for name in fields if name in columns]
    if not present:
        raise UserError(
            f"{path}, line 1: none of the text fields {', '.join(fields)} is a column. Found: {', '.join(columns)}. "
            "Set review_text_fields to the columns that hold the reviews."
        )
    return present


def _time(path: Path, times: Sequence[str], line: int) -> float:
    try:
        return float(times[line])
    except ValueError:
        raise UserError(f"{path}: {times[line]!r} is not a time. Expected a number in every line.") from None
