"""Reviews of users: the atomic file ``<name>.review``, of which only the pairs that are asked for are kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_lcrec.data.text import ItemText, clean_text, read_item_columns
from recbole_lcrec.errors import UserError, nearest

logger = logging.getLogger(__name__)


def review_path(data_folder: Path, dataset_name: str) -> Path:
    """Return where the reviews of a data set lie, if it has any."""
    return data_folder / f"{dataset_name}.review"


def read_reviews(
    path: Path,
    wanted: Mapping[str, Sequence[int]],
    text: ItemText,
    fields: Sequence[str],
    *,
    user_field: str = "user_id",
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
) -> dict[tuple[str, int], str]:
    """Return (user token, catalogue row) -> review of the interactions that are asked for, and of no others.

    A user may have had an item several times, in training and after it. The file does not say which time a review is
    of, so the reviews of a pair are only used when the interactions asked for are at least as many.

    Args:
        path: The file; without it there are no reviews.
        wanted: User token -> rows of the user's interactions whose reviews may be read.
        text: The catalogue's text.
        fields: Option ``review_text_fields``; those present are joined.
        user_field: Column of the user token.
        item_field: Column of the item token.
        separator: RecBole's ``field_separator``.
        encoding: RecBole's ``encoding``.

    Raises:
        UserError: Naming file and line, or the columns that are missing.
    """
    if not path.is_file():
        return {}
    columns = read_item_columns(path, separator, encoding)
    for name in (user_field, item_field):
        if name not in columns:
            raise UserError(f"{path}, line 1: no column {name}.{nearest(name, columns)} Found: {', '.join(columns)}.")
    present = [name for name in fields if name in columns]
    if not present:
        raise UserError(
            f"{path}, line 1: none of the text fields {', '.join(fields)} is a column. Found: {', '.join(columns)}. "
            "Set review_text_fields to the columns that hold the reviews."
        )
    asked = {user: Counter(int(row) for row in rows) for user, rows in wanted.items()}
    found: dict[tuple[str, int], list[str]] = {}
    for line, (user, item) in enumerate(zip(columns[user_field], columns[item_field], strict=True)):
        row = text.rows.get(item, -1)
        if row in asked.get(user, ()):
            review = " ".join(filter(None, (clean_text(columns[name][line]) for name in present)))
            found.setdefault((user, row), []).append(review)
    reviews = {
        (user, row): " ".join(filter(None, texts))
        for (user, row), texts in found.items()
        if len(texts) <= asked[user][row]
    }
    if len(reviews) < len(found):
        logger.warning(
            "%s: %d pairs of user and item have more reviews than interactions of this phase; theirs are not used.",
            path.name, len(found) - len(reviews),
        )  # fmt: skip
    return {pair: review for pair, review in reviews.items() if review}
