"""The JSON files that LC-Rec, LETTER and MiniOneRec exchange: a folder with one ``<name>.inter.json`` and its companions.

| file | content |
|---|---|
| <name>.inter.json | {user: [items in order]} |
| <name>.item.json | {item: {"title", "description", "brand", "categories"}}; any of these may be absent |
| <name>.index.json | {item: ["<a_12>", "<b_201>", ...]}, optional |
| <name>.user.json | {"user_explicit_preference": {...}, "user_vague_intention": {"train": {...}, "test": {...}}}, optional |

They have no times; an item's position in the list takes the place of one. The files are small and are read whole.
"""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.reading import existing_file
from recbole_lcrec.convert.records import Interaction, Rejection, clean, id_token
from recbole_lcrec.utils.errors import UserError

_FIELDS = ("title", "description", "brand", "categories")
_NAN = float("nan")


class LCRecSource:
    """The folder of a data set in the exchange format."""

    kind = "lcrec"
    item_fields: tuple[str, ...] = _FIELDS
    has_ratings = False
    has_reviews = False

    def __init__(self, folder: Path) -> None:
        """Find and read the files.

        Raises:
            UserError: When the folder is not of this kind, or a file in it cannot be read or is malformed.
        """
        inter = _interactions_file(folder)
        stem = inter.name.removesuffix(".inter.json")
        self.files = {"interactions": inter}
        self._histories = _read_object(inter, "{user: [items in order]}")
        item = inter.with_name(f"{stem}.item.json")
        self.files["items"] = existing_file(item, "items' text that belongs to " + inter.name)
        self._items = _read_object(item, "{item: {title, description, ...}}")
        self.carried = {}
        for suffix, check in ((".index.json", _check_index), (".user.json", _check_users)):
            path = inter.with_name(stem + suffix)
            if path.is_file():
                check(path)
                self.carried[suffix] = path

    def interactions(self, part: Part) -> Iterator[Interaction]:
        """Yield every user's items in order; a position in the list is the time."""
        for user, items in self._histories.items():
            entries: list[Any] = items if isinstance(items, list) and items else [_NotAnItem(items)]
            for position, item in enumerate(entries):
                part.read += 1
                try:
                    if isinstance(item, _NotAnItem):
                        raise Rejection("user without a list of items")
                    interaction = Interaction(id_token(user, "user"), id_token(item, "item"), position, _NAN, "")
                except Rejection as rejection:
                    found = item.found if isinstance(item, _NotAnItem) else item
                    part.reject(f"{user!r}[{position}]", str(rejection), json.dumps({user: found}))
                    continue
                part.passed += 1
                yield interaction

    def items(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Yield the items in the file's order."""
        for item, record in self._items.items():
            part.read += 1
            try:
                token = id_token(item, "item")
                if not isinstance(record, dict):
                    raise Rejection("item without an object of texts")
            except Rejection as rejection:
                part.reject(repr(item), str(rejection), json.dumps({item: record}))
                continue
            part.passed += 1
            yield token, record

    def item_text(self, record: Any) -> dict[str, str]:
        """Return the four texts, "" for a missing one."""
        separators = {"categories": ", "}
        return {name: clean(record.get(name), separators.get(name, " ")) for name in _FIELDS}


class _NotAnItem:
    """Stands for what was found where a user's list of items should be."""

    def __init__(self, found: Any) -> None:
        self.found = found


def _interactions_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected one with <name>.inter.json and <name>.item.json.")
    found = sorted(folder.glob("*.inter.json"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise UserError(f"{folder}: expected one <name>.inter.json, found {names}.")


def _read_object(path: Path, expected: str) -> dict[str, Any]:
    def refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise UserError(f"{path}: key {twice!r} occurs more than once in an object. Keep one entry.")
        return value

    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=refuse_repeated_keys)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Expected {expected}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Expected {expected}.") from error
    if not isinstance(value, dict) or not value:
        found = "an empty object" if value == {} else f"a JSON {type(value).__name__}"
        raise UserError(f"{path}: found {found}, expected {expected}.")
    return value


def _check_index(path: Path) -> None:
    """Refuse what is not an index; equal paths are fine here, option ``index_collisions`` deals with them."""
    expected = '{"<item>": ["<a_12>", "<b_201>", ...], ...}'
    for item, codes in _read_object(path, expected).items():
        if not (isinstance(codes, list) and codes and all(isinstance(code, str) for code in codes)):
            raise UserError(f"{path}, item {item!r}: expected a list of index tokens as in {expected}.")


def _check_users(path: Path) -> None:
    expected = '{"user_explicit_preference": {...}, "user_vague_intention": {...}}'
    if not all(isinstance(value, dict) for value in _read_object(path, expected).values()):
        raise UserError(f"{path}: expected {expected}.")
