"""Which item features RecBole's feature models read (FDSA, SASRecF, GRU4RecF, S3Rec), from the columns that are there.

RecBole's YAMLs name column ``class`` of ml-100k, and on other data the models fail with a KeyError. Here the first
categorical column of the item file takes its place and is loaded; token_seq columns are split at blanks, so words are
the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.table import read_header

OPTIONS = {"FDSA": "selected_features", "SASRecF": "selected_features", "GRU4RecF": "selected_features"}
OPTIONS["S3Rec"] = "item_attribute"
CATEGORICAL = ("categories", "class", "genres", "genre", "category", "brand")
"""Columns to take, in order of preference. Titles and descriptions are not among them: too many words."""


def item_features(model: str, options: Mapping[str, Any], given: Mapping[str, Any], item_file: Path) -> dict[str, Any]:
    """Return the option that names a feature model's columns, and ``load_col`` with them; {} for other models.

    Args:
        model: The model.
        options: All options so far.
        given: Those among them that the user gave; they are not changed.
        item_file: ``<name>.item``; if it does not exist yet (before a download), nothing is chosen.

    Raises:
        UserError: If the data have no such column, or ``load_col`` leaves it out.
    """
    option = OPTIONS.get(model)
    if option is None or not item_file.is_file():
        return {}
    columns = read_header(item_file, options["field_separator"], options.get("encoding")).types
    wanted = options[option] if isinstance(options[option], list) else [options[option]]
    if option not in given and not set(wanted) <= set(columns):
        wanted = [name for name in CATEGORICAL if name in columns][:1]
        if not wanted:
            raise UserError(
                f"model {model} needs a feature of the items: none of the columns {', '.join(CATEGORICAL)} is in "
                f"{item_file}. Name one with {option}; it has: {', '.join(columns)}."
            )
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UserError(
            f"option {option}: no column {', '.join(missing)} in {item_file}; it has {', '.join(columns)}."
        )
    others = ", ".join(name for name, kind in columns.items() if "token" in kind and name != options["ITEM_ID_FIELD"])
    if not any(columns[name].startswith("token") for name in wanted):
        raise UserError(
            f"option {option}: model {model} needs at least one column of tokens, but {', '.join(wanted)} of "
            f"{item_file} holds numbers. Name a column of type token or token_seq; it has: {others or 'none'}."
        )
    return {
        option: wanted if isinstance(options[option], list) else wanted[0],
        "load_col": _loading(options["load_col"], wanted, options["ITEM_ID_FIELD"], option, "load_col" in given),
    }


def _loading(load_col: Any, wanted: list[str], item_id: str, option: str, is_given: bool) -> Any:
    """Return load_col with the wanted columns of the items."""
    if load_col is None or load_col.get("item") == "*":
        return load_col
    loaded = load_col.get("item") or [item_id]
    missing = [name for name in wanted if name not in loaded]
    if missing and is_given:
        raise UserError(f"option load_col does not load column {', '.join(missing)} of the items, named by {option}.")
    return {**load_col, "item": [*loaded, *missing]}
