"""Interactions on disk: numbers in plain binary files, ids as text with 64-bit keys, and ids turned into codes.

A dictionary of all ids would take gigabytes for the largest review files. Here each id is hashed when it is read; the
keys are sorted in blocks to find which are equal, and equal keys get one int32 code, in the order of first appearance.
A second, independent key of each id is compared within every group, so that two ids cannot be merged unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHUNK = 1 << 18  # rows read or written at once
BLOCK = 1 << 21  # rows sorted at once; about 100 bytes of memory each
_KEYS = ("recbole_lcrec.id", "another key:16 b")  # 16 characters each, as pandas' hash requires


class Column:
    """One number per interaction, in a file."""

    def __init__(self, path: Path, dtype: Any) -> None:
        """Start an empty column at ``path``."""
        self.dtype = np.dtype(dtype)
        self._path = path
        path.write_bytes(b"")

    def append(self, values: Sequence[float] | np.ndarray) -> None:
        """Add values at the end."""
        with self._path.open("ab") as file:
            np.asarray(values, dtype=self.dtype).tofile(file)

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row of the first value, values) piece by piece."""
        start = 0
        with self._path.open("rb") as file:
            while len(values := np.fromfile(file, self.dtype, CHUNK)):
                yield start, values
                start += len(values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the values at ``rows``, which ascend."""
        taken = []
        for start, values in self.chunks():
            low, high = np.searchsorted(rows, (start, start + len(values)))
            taken.append(values[rows[low:high] - start])
        return np.concatenate(taken) if taken else np.empty(0, self.dtype)


class Tokens:
    """One id per interaction, in files: the text, a key to sort by and a second key to check the first."""

    def __init__(self, folder: Path, name: str) -> None:
        """Start empty; ``folder`` must exist."""
        self._text = folder / f"{name}.txt"
        self._distinct = folder / f"{name}.distinct.txt"
        self._text.write_bytes(b"")
        self._keys = Column(folder / f"{name}.keys", np.uint64)
        self._checks = Column(folder / f"{name}.checks", np.uint64)

    def append(self, tokens: Sequence[str]) -> None:
        """Add ids at the end; they must not have line breaks."""
        values = np.array(tokens, dtype=object)
        for column, key in zip((self._keys, self._checks), _KEYS, strict=True):
            column.append(pd.util.hash_array(values, hash_key=key, categorize=False))
        with self._text.open("a", encoding="utf-8", newline="") as file:
            file.write("\n".join(tokens) + "\n")

    def factorise(self, n_rows: int) -> tuple[np.ndarray, int]:
        """Give every distinct id a code and write the distinct ids to a file.

        Returns:
            Codes int32 [n_rows] in the order of first appearance, and the number of distinct ids.
        """
        codes = np.empty(n_rows, np.int32)
        first_rows: list[np.ndarray] = []
        n_codes, n_blocks = 0, -(-n_rows // BLOCK)
        for block in range(n_blocks):
            rows, keys, checks = self._block(block, n_blocks)
            _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
            if (checks[first][inverse] != checks).any():
                raise RuntimeError("two different ids have the same 64-bit key; give one of them another name")
            codes[rows] = inverse + n_codes
            first_rows.append(rows[first])
            n_codes += len(first)
        first_row = np.concatenate(first_rows)
        order = np.argsort(first_row)
        rank = np.empty(n_codes, np.int32)
        rank[order] = np.arange(n_codes, dtype=np.int32)
        for start in range(0, n_rows, CHUNK):
            codes[start : start + CHUNK] = rank[codes[start : start + CHUNK]]
        self._write_distinct(first_row, n_rows)
        return codes, n_codes

    def _block(self, block: int, n_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, keys and checks of one of n_blocks parts of the keys; equal ids are in the same block."""
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for (start, keys), (_, checks) in zip(self._keys.chunks(), self._checks.chunks(), strict=True):
            inside = np.flatnonzero(keys % np.uint64(n_blocks) == block)
            parts.append((inside + start, keys[inside], checks[inside]))
        rows, keys, checks = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return rows, keys, checks

    def _write_distinct(self, first_row: np.ndarray, n_rows: int) -> None:
        is_first = np.zeros(n_rows, np.uint8)
        is_first[first_row] = 1
        with self._text.open(encoding="utf-8", newline="\n") as text, self._distinct.open("wb") as file:
            for start in range(0, n_rows, CHUNK):
                lines = compress(islice(text, CHUNK), is_first[start : start + CHUNK].tobytes())
                file.write("".join(lines).encode())

    def reader(self) -> TokenReader:
        """Return a reader of the distinct ids, in the order of their codes."""
        return TokenReader(self._distinct)


class TokenReader:
    """Looks up ids by ascending code in one pass over a file."""

    def __init__(self, path: Path) -> None:
        self._lines = self._open(path)
        self._code = -1
        self._token = ""

    @staticmethod
    def _open(path: Path) -> Iterator[str]:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line[:-1]

    def take(self, codes: Sequence[int]) -> list[str]:
        """Return the ids of ``codes``, which ascend, also from one call to the next; codes may repeat."""
        tokens = []
        for code in codes:
            if code != self._code:
                self._token = next(islice(self._lines, code - self._code - 1, None))
                self._code = code
            tokens.append(self._token)
        return tokens


@dataclass(frozen=True)
class Interactions:
    """All interactions that could be read, in file order.

    Attributes:
        users: Code of the user per interaction, int32 [n].
        items: Code of the item, int32 [n].
        times: Timestamps, float64, on disk.
        ratings: Ratings, float64, on disk; None if there are none.
        n_users: Number of distinct users.
        n_items: Number of distinct items.
        user_tokens: Ids of the users, on disk.
        item_tokens: Ids of the items, on disk.
    """

    users: np.ndarray
    items: np.ndarray
    times: Column
    ratings: Column | None
    n_users: int
    n_items: int
    user_tokens: Tokens
    item_tokens: Tokens

    def __post_init__(self) -> None:
        assert len(self.users) == len(self.items)

    def __len__(self) -> int:
        return len(self.users)
