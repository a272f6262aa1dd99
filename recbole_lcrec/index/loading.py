"""Reading index files: item to path, as the exchange JSON of LC-Rec, LETTER and MiniOneRec or as integers.

``{"<item>": ["<a_12>", "<b_201>", ...], ...}`` or ``{"<item>": [12, 201, ...], ...}``; the first code of a file tells
which. Integers are the codes of each level, counted from 0. If a tool numbers the codes consecutively across levels
(256 .. 511 on the second), subtract the offsets first: a file does not show them, so they are not guessed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex
from recbole_lcrec.index.mapping import unique_paths
from recbole_lcrec.quantizer.costs import own_code_costs
from recbole_lcrec.quantizer.quantizer_settings import MAX_CODES, MAX_LEVELS, MIN_LEVELS, check_tokens
from recbole_lcrec.utils.errors import UserError, clipped

logger = logging.getLogger(__name__)

MAX_CODE = MAX_CODES - 1  # every code up to the largest becomes a token of the LM: a typo must not make a billion
SPARSE_CODES, CODES_PER_ITEM = 4096, 8
"""Number of codes that a level may always have; beyond that, it may have this many per item."""
_TOKEN = re.compile(r"<([a-z]{1,2})_(0|[1-9][0-9]{0,8})>")


def load_index(
    path: str | Path,
    *,
    collisions: str,
    required_items: Sequence[str] = (),
    codebook_size: int | Sequence[int] = 1,
) -> ItemIndex:
    """Load an index file, our own or another tool's.

    Args:
        path: A file of index tokens or of integers.
        collisions: Option ``index_collisions``. ``error`` refuses equal paths; ``resolve`` lets the first item in the
            file keep its path and gives the others the lowest free last codes under the same prefix.
        required_items: Item tokens that the file must have; it may have more, which are kept.
        codebook_size: Minimum number of codes per level, one number or one per level; a file does not say how many
            there are. A level is larger if the file uses larger codes.

    Returns:
        The index, items in the file's order.

    Raises:
        UserError: For a file that cannot be read, is malformed, lacks items, or has equal paths under ``error``.
    """
    assert collisions in ("error", "resolve"), collisions
    path = Path(path).expanduser()
    items, codes = _parse(_read_object(path), path)
    _check_items(items, required_items, path)
    sizes = _level_sizes(codes, codebook_size, path)
    n_distinct = len(np.unique(codes, axis=0))
    if n_distinct < len(codes):
        found = (
            f"{len(codes)} items have only {n_distinct} distinct paths "
            f"(collision rate {1 - n_distinct / len(codes):.2%})"
        )
        if collisions == "error":
            raise UserError(
                f"index_file={path}: {found}, e.g. {_example(items, codes)}. Every item needs a path of its own: "
                "set index_collisions=resolve to have free paths assigned, or repair the file."
            )
        mapping = unique_paths(codes, sizes, own_code_costs(codes, sizes))
        logger.warning("%s: %s; %d items got free paths near their own.", path, found, mapping.moved)
        codes = mapping.codes
    return ItemIndex(tuple(items), codes, sizes)


def _read_object(path: Path) -> dict[str, Any]:
    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise UserError(f"index_file={path}: item {twice!r} occurs more than once. Keep one entry per item.")
        return value

    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=refuse_duplicates)
    except FileNotFoundError as error:
        raise UserError(f"index_file={path}: there is no such file.") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"index_file={path}, line {error.lineno}: not valid JSON ({error.msg}). {_EXPECTED}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"index_file={path}: cannot be read ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"index_file={path}: found a JSON {type(value).__name__}, expected an object. {_EXPECTED}")
    if not value:
        raise UserError(f"index_file={path}: it holds no items. {_EXPECTED}")
    return value


_EXPECTED = 'Expected {"<item token>": ["<a_12>", "<b_201>", ...], ...} or {"<item token>": [12, 201, ...], ...}.'


def _parse(entries: dict[str, Any], path: Path) -> tuple[list[str], np.ndarray]:
    """Return item tokens and codes [n, L] of the file's entries."""
    n_levels = None
    rows = []
    for item, values in entries.items():
        where = f"index_file={path}, item {item!r}"
        if not isinstance(values, list):
            raise UserError(f"{where}: found {_short(values)}, expected a list of codes. {_EXPECTED}")
        if n_levels is None:
            n_levels, first = len(values), item
            if not MIN_LEVELS <= n_levels <= MAX_LEVELS:
                raise UserError(
                    f"{where}: found a path of {n_levels} codes, expected {MIN_LEVELS} to {MAX_LEVELS}. {_EXPECTED}"
                )
            integers = _is_integer(values[0])
        if len(values) != n_levels:
            raise UserError(
                f"{where}: found a path of {len(values)} codes, expected {n_levels} as for item {first!r}. "
                "All paths must have the same length."
            )
        if any(_is_integer(value) != integers for value in values):
            _refuse_other_form(values, integers, where)
        parse = _integer if integers else _code
        rows.append([parse(value, level, where) for level, value in enumerate(values)])
    return list(entries), np.array(rows, dtype=np.int64)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_other_form(values: list[Any], integers: bool, where: str) -> None:
    """Refuse a path with values in another form than the file's first; values in neither form are left alone."""
    for level, value in enumerate(values):
        if isinstance(value, str) if integers else _is_integer(value):
            forms = ("integers", "an index token") if integers else ("index tokens", "an integer")
            raise UserError(
                f"{where}: found {_short(value)} at position {level + 1}, {forms[1]}, but the file began with "
                f"{forms[0]}. Use one form in the whole file."
            )


def _integer(value: Any, level: int, where: str) -> int:
    if not _is_integer(value) or value < 0:
        raise UserError(
            f"{where}: found {_short(value)} at position {level + 1}, expected a whole number of 0 or more: the code "
            f"of level {level + 1}, counted from 0."
        )
    return _in_range(value, str(value), where)


def _code(token: Any, level: int, where: str) -> int:
    match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    letter = LEVEL_LETTERS[level]
    if match is None or match[1] != letter:
        raise UserError(
            f"{where}: found {_short(token)} at position {level + 1}, expected an index token like <{letter}_12>. "
            f"Levels are named {', '.join(LEVEL_LETTERS[: level + 1])}, ... in order."
        )
    return _in_range(int(match[2]), token, where)


def _in_range(code: int, found: str, where: str) -> int:
    if code > MAX_CODE:
        raise UserError(f"{where}: found code {found[:60]}, expected at most {MAX_CODE}.")
    return code


def _short(value: Any) -> str:
    return clipped(json.dumps(value, ensure_ascii=False), 60)


def _check_items(items: list[str], required: Sequence[str], path: Path) -> None:
    present = set(items)
    missing = [item for item in required if item not in present]
    if missing:
        examples = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"index_file={path}: {len(missing)} of the data set's {len(required)} items have no path ({examples}); "
            f"the file has {len(items)} items, the first {items[0]!r}. Use the index of this data set: item tokens "
            "must be the raw ids of its .inter and .item files."
        )


def _level_sizes(codes: np.ndarray, codebook_size: int | Sequence[int], path: Path) -> tuple[int, ...]:
    n_levels = codes.shape[1]
    least = [codebook_size] * n_levels if isinstance(codebook_size, int) else list(codebook_size)
    if len(least) != n_levels:
        raise UserError(
            f"codebook_size: found sizes of {len(least)} levels, but the paths in index_file={path} have {n_levels}. "
            "Give one number, or one per level."
        )
    tops = codes.max(axis=0).tolist()
    # a few codes scattered over many numbers: every number up to the largest would become a token
    limit = max(SPARSE_CODES, CODES_PER_ITEM * len(codes))
    for level, top in enumerate(tops):
        if top >= limit:
            raise UserError(
                f"index_file={path}: level {level + 1} of {len(codes)} items uses code {top}; expected codes below "
                f"{limit:,}, since every code up to the largest becomes a token. Number the codes of a level from 0 "
                "without gaps."
            )
    sizes = tuple(max(int(size), top + 1) for size, top in zip(least, tops, strict=True))
    check_tokens(sizes, f"index_file={path}")
    return sizes


def _example(items: list[str], codes: np.ndarray) -> str:
    first: dict[tuple[int, ...], str] = {}
    for item, path in zip(items, map(tuple, codes.tolist()), strict=True):
        if path in first:
            return f"items {first[path]!r} and {item!r}"
        first[path] = item
    raise AssertionError("no two paths are equal")
