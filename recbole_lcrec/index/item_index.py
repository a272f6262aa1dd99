"""The item index: every item's own path of codes, as a value that cannot be wrong."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recbole_lcrec.quantizer.quantizer_settings import MAX_LEVELS, MIN_LEVELS
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.files import write_text

_ALPHABET = string.ascii_lowercase
LEVEL_LETTERS = (*_ALPHABET, *(first + second for first in _ALPHABET for second in _ALPHABET))[:MAX_LEVELS]
"""The names of the levels in index tokens: a to z, then aa, ab and so on, like columns of a spreadsheet."""


def index_token(level: int, code: int) -> str:
    """Return the LM's token for a code, e.g. ``<a_12>`` for code 12 of level 0."""
    return f"<{LEVEL_LETTERS[level]}_{code}>"


def check_capacity(n_items: int, level_sizes: Sequence[int]) -> None:
    """Refuse a catalogue with more items than there are paths.

    Raises:
        UserError: Naming ``codebook_size`` and ``num_levels``.
    """
    n_paths = math.prod(map(int, level_sizes))
    if n_items > n_paths:
        sizes = " x ".join(map(str, level_sizes))
        raise UserError(
            f"codebook_size, num_levels: {n_items} items need a path each, but {sizes} codes make only {n_paths} "
            "paths. Raise codebook_size or num_levels."
        )


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Items and their paths, in an order of their own: from outside, items are looked up by their tokens.

    Attributes:
        items: Item tokens.
        codes: int64 [n_items, L], read-only; the path of ``items[i]`` is at position i.
        level_sizes: Number of codes of each level, used or not.

    Raises:
        ValueError: For equal paths, duplicate items, codes out of range, or a number of levels outside 2 to 32.
    """

    items: tuple[str, ...]
    codes: np.ndarray
    level_sizes: tuple[int, ...]
    _positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        codes = np.array(self.codes, dtype=np.int64)  # a copy that nothing else can write to
        codes.flags.writeable = False
        sizes = tuple(int(size) for size in self.level_sizes)
        positions = {item: position for position, item in enumerate(self.items)}
        object.__setattr__(self, "items", tuple(self.items))
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "level_sizes", sizes)
        object.__setattr__(self, "_positions", positions)
        if not MIN_LEVELS <= len(sizes) <= MAX_LEVELS:
            raise ValueError(f"an item index has {MIN_LEVELS} to {MAX_LEVELS} levels, not {len(sizes)}")
        if codes.shape != (len(self.items), len(sizes)):
            raise ValueError(f"codes of shape {codes.shape} for {len(self.items)} items and {len(sizes)} levels")
        if len(positions) < len(self.items):
            raise ValueError(f"{len(self.items) - len(positions)} item tokens occur more than once")
        if ((codes < 0) | (codes >= np.array(sizes))).any():
            raise ValueError(f"codes must lie in 0 .. size - 1 of their level; the sizes are {sizes}")
        n_paths = len(np.unique(codes, axis=0))
        if n_paths < len(codes):
            raise ValueError(f"{len(codes)} items have only {n_paths} distinct paths")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ItemIndex):
            return NotImplemented
        same = self.items == other.items and self.level_sizes == other.level_sizes
        return same and bool(np.array_equal(self.codes, other.codes))

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.items)

    def index_tokens(self) -> list[str]:
        """Return the token of every possible code, level by level: ``<a_0> ... <a_255> <b_0> ...``."""
        return [index_token(level, code) for level, size in enumerate(self.level_sizes) for code in range(size)]

    def positions(self, items: Sequence[str]) -> np.ndarray:
        """Return the positions of items in the index's own order, int64 [n]: for arrays in that order, too.

        Raises:
            UserError: If one is not in the index.
        """
        for item in items:
            if item not in self._positions:
                raise UserError(
                    f"item {item!r} is not in the item index of {len(self)} items.{nearest(item, self.items)}"
                )
        return np.array([self._positions[item] for item in items], np.int64)

    def codes_of(self, items: Sequence[str]) -> np.ndarray:
        """Return the codes of items, int64 [n, L]; the error is that of :meth:`positions`."""
        return self.codes[self.positions(items)]

    def path(self, item: str) -> tuple[str, ...]:
        """Return the index tokens of an item's path, e.g. ``("<a_12>", "<b_201>", "<c_7>", "<d_88>")``."""
        return self._path_of(int(self.positions([item])[0]))

    def _path_of(self, position: int) -> tuple[str, ...]:
        return tuple(index_token(level, code) for level, code in enumerate(self.codes[position].tolist()))

    def extended(self, items: Sequence[str], codes: np.ndarray) -> ItemIndex:
        """Return an index with more items; existing ones keep their paths.

        Args:
            items: New item tokens.
            codes: int64 [m, L], their paths, which must be free (:func:`recbole_lcrec.index.mapping.add_paths`).

        Raises:
            ValueError: As for a new index.
        """
        if np.ndim(codes) != 2 or np.shape(codes)[1] != len(self.level_sizes):
            raise ValueError(
                f"codes of shape {np.shape(codes)} for {len(items)} items and {len(self.level_sizes)} levels"
            )
        return ItemIndex((*self.items, *items), np.concatenate([self.codes, codes]), self.level_sizes)

    def save(self, path: str | Path, form: str = "tokens") -> None:
        """Write the exchange JSON, one item per line.

        The file holds no level sizes, so that other tools can read it. If the highest codes are unused, load it with
        ``codebook_size=index.level_sizes`` to get the same index.

        Args:
            path: The file.
            form: ``tokens`` for ``{"<item>": ["<a_12>", "<b_201>", ...], ...}``; ``integers`` for
                ``{"<item>": [12, 201, ...], ...}``, the codes of each level from 0.

        Raises:
            UserError: For another form.
        """
        if form not in ("tokens", "integers"):
            raise UserError(f"form: expected tokens or integers, found {form!r}.")
        paths = self.codes.tolist() if form == "integers" else map(self._path_of, range(len(self)))
        lines = [
            f"{json.dumps(item, ensure_ascii=False)}: {json.dumps(path)}"
            for item, path in zip(self.items, paths, strict=True)
        ]
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
