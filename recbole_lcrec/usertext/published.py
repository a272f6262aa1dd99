"""Texts of users as LC-Rec's authors publish them: ``<name>.user.json`` next to the atomic files.

    {"user_explicit_preference": {user: [text, ...]},
     "user_vague_intention": {"train": {user: {"item": item, "inters": [item, ...], "querys": [text, ...]}},
                              "test": {...}}}

Users and items are the data set's raw tokens, as texts or whole numbers. The file's form is checked when it is read; a
block is only looked at on request: training never asks for "test".

A run keeps the texts that it was trained with in the same form, so that a saved run needs neither the model that wrote
them nor its cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.data.text import clean_text
from recbole_lcrec.usertext.texts import UserTexts
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.files import write_json

PREFERENCES, INTENTIONS = "user_explicit_preference", "user_vague_intention"
_BLOCKS = ("train", "valid", "test")
_LONGEST = 20_000  # characters of a text: far more than a prompt takes
_MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class PublishedIntention:
    """One entry of a "train" or "test" block, in raw tokens; ``queries`` has no empty ones."""

    item: str
    history: tuple[str, ...]
    queries: tuple[str, ...]


KIND = "user.json"
"""The file is next to the data, as ``<name>.user.json``."""


def read_published(path: Path) -> dict[str, Any]:
    """Read the file.

    Raises:
        UserError: If it cannot be read, is not JSON, or holds neither preferences nor intentions.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: larger than {_MOST_BYTES >> 30} GiB. Expected a few sentences per user.")
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda pairs: _object(pairs, path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON in UTF-8 ({error}). Fix or remove it.") from error
    value = _dict(value, path, "the whole file")
    if PREFERENCES not in value and INTENTIONS not in value:
        raise UserError(
            f"{path}: expected the keys {PREFERENCES} and {INTENTIONS}, found {', '.join(list(value)[:5]) or 'none'}."
        )
    known = (PREFERENCES, INTENTIONS)
    if odd := [key for key in value if key not in known and nearest(key, known)]:
        raise UserError(f"{path}: unknown key {odd[0]}.{nearest(odd[0], known)}")
    blocks = value.get(INTENTIONS)
    if isinstance(blocks, dict) and blocks and not blocks.keys() & set(_BLOCKS):
        raise UserError(f"{path}: {INTENTIONS} has {', '.join(list(blocks)[:5])}; expected {' and '.join(_BLOCKS)}.")
    return value


def write_published(path: Path, texts: UserTexts, items: Sequence[str]) -> None:
    """Write training texts in the published form, whole or not at all; there is no "test" block.

    Args:
        path: Where to write the file.
        texts: The texts.
        items: Item tokens of the catalogue's rows.
    """
    train = {
        user: {
            "item": items[intention.target],
            "inters": [items[row] for row in intention.history],
            "querys": list(intention.queries),
        }
        for user, intention in texts.intentions.items()
    }
    preferences = {user: list(entry.texts) for user, entry in texts.preferences.items()}
    write_json(path, {PREFERENCES: preferences, INTENTIONS: {"train": train}})


def preferences_of(value: dict[str, Any], path: Path, *, as_is: bool = False) -> dict[str, tuple[str, ...]]:
    """Return user token -> preferences, cleaned (unless ``as_is``); empty if no words are left.

    Raises:
        UserError: Naming the entry that is not a list of texts.
    """
    users = _dict(value.get(PREFERENCES, {}), path, PREFERENCES)
    return {user: _texts(texts, path, f"{PREFERENCES}.{user}", as_is) for user, texts in users.items()}


def intentions_of(
    value: dict[str, Any], path: Path, block: str, *, as_is: bool = False
) -> dict[str, PublishedIntention]:
    """Return user token -> entry of the block "train" or "test", its queries cleaned (unless ``as_is``).

    Raises:
        UserError: Naming the entry and the key that is missing or of another type.
    """
    blocks = _dict(value.get(INTENTIONS, {}), path, INTENTIONS)
    users = _dict(blocks.get(block, {}), path, f"{INTENTIONS}.{block}")
    found = {}
    for user, entry in users.items():
        where = f"{INTENTIONS}.{block}.{user}"
        entry = _dict(entry, path, where)
        for key in ("item", "inters", "querys"):
            if key not in entry:
                raise UserError(f"{path}: {where} has no key {key}. Expected item, inters and querys.")
        inters = entry["inters"]
        if not isinstance(inters, list):
            raise UserError(f"{path}: {where}.inters is {_shown(inters)}; expected a list of items.")
        found[user] = PublishedIntention(
            _token(entry["item"], path, f"{where}.item"),
            tuple(_token(item, path, f"{where}.inters") for item in inters),
            _texts(entry["querys"], path, f"{where}.querys", as_is),
        )
    return found


def _dict(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where} is {_shown(value)}; expected an object of keys and values.")
    return value


def _token(value: Any, path: Path, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{path}: {where} holds {_shown(value)}; expected an item token, as text or whole number.")
    return str(value)


def _texts(value: Any, path: Path, where: str, as_is: bool) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{path}: {where} is {_shown(value)}; expected a list of texts.")
    for text in texts:
        if len(text) > _LONGEST or not (text.isascii() or _is_unicode(text)):
            problem = f"of {len(text)} characters" if len(text) > _LONGEST else "with half a surrogate pair"
            raise UserError(
                f"{path}: {where} has a text {problem} ({ascii(text[:40])}); expected sentences of up to {_LONGEST} "
                "characters that UTF-8 can hold."
            )
    return tuple(dict.fromkeys(filter(None, texts if as_is else map(clean_text, texts))))


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _object(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """Return an object of the file, refusing repeated keys: JSON readers silently keep the last one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{path}: key {twice!r} occurs twice in one object. Keep one of them.")
    return found


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {json.dumps(value, ensure_ascii=False)[:60]}"
