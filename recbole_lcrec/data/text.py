"""The items' text, read once and as text from ``<name>.item``, not through RecBole's feature machinery.

RecBole would split every description into words and make each word a feature. Here a column stays a string, without
HTML entities and tags, the quotes that CSV writers put around it, and runs of white space.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from recbole_lcrec.config import StageSettings
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.ids import check_same_ids
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.table import read_header, read_table

logger = logging.getLogger(__name__)

_TAG = re.compile(r"<[^<>]{0,500}>")  # also takes "<= 1 mV ... >", as the published data sets of this field do
_SPACE = re.compile(r"\s+")
_WORD_CHARACTER = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class ItemText:
    """Cleaned text of the catalogue.

    Attributes:
        items: Item tokens in the order of the ``.item`` file, then those that only interactions name.
        title_field: Name of the column that serves as title, None if there is no text.
        detail_fields: The other columns, in order of preference; together they are the description.
        titles: One title per item, "" if the item has none.
        descriptions: One description per item, "" if the item has none.
        columns: The same text by column, for uses of brands or categories: name -> one text per item.
    """

    items: tuple[str, ...]
    title_field: str | None
    detail_fields: tuple[str, ...]
    titles: tuple[str, ...]
    descriptions: tuple[str, ...]
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.items) == len(self.titles) == len(self.descriptions)
        object.__setattr__(self, "rows", {item: row for row, item in enumerate(self.items)})
        assert len(self.rows) == len(self.items), "item tokens must be distinct"

    @property
    def has_titles(self) -> bool:
        """Whether any item has a title."""
        return any(self.titles)

    def extended(self, items: Sequence[str], titles: Sequence[str], descriptions: Sequence[str]) -> ItemText:
        """Return this text with further items at its end; their texts are cleaned here.

        Raises:
            UserError: For an item that is there already, or given twice.
        """
        known = [item for item in items if item in self.rows]
        if known or len(set(items)) < len(items):
            again = known[0] if known else next(item for item in items if list(items).count(item) > 1)
            raise UserError(f"item {again!r} is in the catalogue already, or given twice. Add items once.")
        return ItemText(
            (*self.items, *items), self.title_field, self.detail_fields,
            (*self.titles, *map(clean_text, titles)), (*self.descriptions, *map(clean_text, descriptions)),
        )  # fmt: skip

    def documents(self) -> list[str]:
        """Return one text per item, title and description joined, for the text encoder."""
        return [" ".join(filter(None, pair)) for pair in zip(self.titles, self.descriptions, strict=True)]


def clean_text(text: str) -> str:
    """Return ``text`` without entities, tags, surrounding quotes and runs of white space.

    A text without any letter or digit counts as absent and becomes "".
    """
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', ""):
        text = text[1:-1].replace('""', '"')  # a CSV writer's quotes; those of: "this" and "that" are the text's own
    # twice: scraped catalogues hold "&amp;quot;", the escape of an escape
    text = html.unescape(html.unescape(text))
    text = _SPACE.sub(" ", _TAG.sub(" ", text)).strip()
    return text if _WORD_CHARACTER.search(text) else ""


def read_columns(files: DataFiles, kind: str) -> dict[str, list[str]]:
    """Read an atomic file whole, as raw strings.

    Returns:
        Column name (without its type) -> one raw string per line.

    Raises:
        UserError: Naming file and line; see :mod:`recbole_lcrec.utils.table`.
    """
    return read_table(read_header(files.path(kind), files.separator, files.encoding), numbers=False).cells


def item_titles(files: DataFiles, items: Collection[str], fields: Sequence[str]) -> dict[str, str]:
    """Return the titles of some items, for people to read: item token -> title, for those that have one.

    Args:
        files: The data set's files; ``.item`` may be absent.
        items: Item tokens.
        fields: Option ``item_text_fields``; the first that is a column is the title.

    Raises:
        UserError: If the file cannot be read.
    """
    if not files.path("item").is_file():
        return {}
    header = read_header(files.path("item"), files.separator, files.encoding)
    title = next((name for name in fields if name in header.types), None)
    if title is None or files.item_field not in header.types:
        return {}
    columns = read_table(header, {files.item_field, title}, numbers=False).cells
    wanted, found = set(items), {}
    for item, text in zip(columns[files.item_field], columns[title], strict=True):
        if item in wanted:
            wanted.remove(item)  # if lines repeat a token, the first counts
            found[item] = clean_text(text)
    return {item: text for item, text in found.items() if text}


@dataclass(frozen=True)
class ItemTextSettings(StageSettings):
    """Which text of the items is read; the options are explained in properties/overall.yaml."""

    item_text_fields: list[str]
    cold_items: bool


def load_item_text(
    files: DataFiles,
    known_items: Sequence[str],
    fields: Sequence[str],
    *,
    text_required: bool = True,
    cold_items: bool = True,
) -> ItemText:
    """Read the catalogue's text and join it with the items that interactions name.

    Args:
        files: The data set's files; ``.item`` may be absent when ``text_required`` is False.
        known_items: Item tokens of the interactions (after filtering), in RecBole's order.
        fields: Option ``item_text_fields``, in order of preference. The first that is present is the title, the
            others that are present make up the description.
        text_required: Whether the index has to be built from text.
        cold_items: Whether items of the file that interactions do not name belong to the catalogue.

    Returns:
        The text of every known item and, with ``cold_items``, of every item of the file.

    Raises:
        UserError: If text is required and there is no file or none of the fields, or the file cannot be used.
    """
    path = files.path("item")
    if not path.is_file():
        if text_required:
            raise UserError(
                f"{path} does not exist, so there is no item text to build an index from. Add it (columns "
                f"{files.item_field}:token and one of {', '.join(fields)}), or give a ready index with index_file=, "
                "or embeddings with text_encoder=file:<.npy>."
            )
        logger.info("No item text (%s is absent).", path)
        return _without_text(known_items)
    columns = _item_columns(files)
    present = [name for name in fields if name in columns]
    if not present and text_required:
        others = sorted(set(columns) - {files.item_field})
        raise UserError(
            f"{path}: none of the text fields {', '.join(fields)} is a column. Found: {', '.join(others) or 'none'}. "
            "Set item_text_fields to the columns that hold text, e.g. "
            f"--item_text_fields=\"['{(others or ['title'])[0]}']\"."
        )
    check_same_ids("item", known_items, "the interactions", columns[files.item_field], path.name)
    if not cold_items:
        columns = _rows_of(columns, files.item_field, known_items)
    missing = [name for name in fields if name not in columns]
    if present and missing:
        logger.info("Text fields used: %s (not in %s: %s).", ", ".join(present), path.name, ", ".join(missing))
    return _join(columns, files.item_field, present, known_items, path)


def _item_columns(files: DataFiles) -> dict[str, list[str]]:
    """Return the columns of the ``.item`` file.

    Raises:
        UserError: If the column of the item token is missing, or a line has no token in it.
    """
    header = read_header(files.path("item"), files.separator, files.encoding)
    if files.item_field not in header.types:
        raise UserError(
            f"{files.path('item')}, line 1: no column {files.item_field}.{nearest(files.item_field, header.types)} "
            "Set ITEM_ID_FIELD or rename it."
        )
    header.require(files.item_field, "token")
    table = read_table(header, numbers=False)
    table.require_ids(files.item_field)
    return table.cells


def _rows_of(columns: dict[str, list[str]], item_field: str, items: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of an item file for ``items``, in the order of the file."""
    wanted = set(items)
    keep = [item in wanted for item in columns[item_field]]
    return {name: list(compress(column, keep)) for name, column in columns.items()}


def _without_text(items: Sequence[str]) -> ItemText:
    blank = ("",) * len(items)
    return ItemText(tuple(items), None, (), blank, blank)


def _join(
    columns: dict[str, list[str]], item_field: str, present: list[str], known_items: Sequence[str], path: Path
) -> ItemText:
    """Clean the present fields, drop repeated item tokens and append the items that the file lacks."""
    row_of: dict[str, int] = {}
    for row, item in enumerate(columns[item_field]):
        row_of.setdefault(item, row)
    repeated = len(columns[item_field]) - len(row_of)
    if repeated:
        logger.warning("%s: %d lines repeat an item token; the first of each is used.", path.name, repeated)
    lacking = [item for item in known_items if item not in row_of]
    if lacking:
        logger.warning(
            "%d of %d items with interactions are not in %s (e.g. %s); they are treated as items without text.",
            len(lacking), len(known_items), path.name, ", ".join(lacking[:3]),
        )  # fmt: skip
    rows = list(row_of.values())
    cleaned = {name: [clean_text(columns[name][row]) for row in rows] for name in present}
    blank = [""] * len(lacking)
    titles = (cleaned[present[0]] if present else [""] * len(rows)) + blank
    details = [". ".join(filter(None, parts)) for parts in zip(*(cleaned[n] for n in present[1:]), strict=True)]
    descriptions = (details or [""] * len(rows)) + blank
    text = ItemText(
        tuple(row_of) + tuple(lacking), present[0] if present else None, tuple(present[1:]),
        tuple(titles), tuple(descriptions), {name: tuple(column + blank) for name, column in cleaned.items()},
    )  # fmt: skip
    empty = sum(not document for document in text.documents())
    logger.info("Catalogue: %d items, %d without any text.", len(text.items), empty)
    return text
