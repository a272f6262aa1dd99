"""Embeddings that were computed elsewhere: an .npy file, rows matched to items by an ids file or by order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_lcrec.utils.errors import UserError

LARGEST = 1e15
"""Largest absolute value in an embedding."""


def load(path: Path, items: Sequence[str], *, ids_file: str | None) -> np.ndarray:
    """Return one row per item.

    Args:
        path: An .npy file of numbers [n_rows, d].
        items: Item tokens, in catalogue order.
        ids_file: Text file with the item token of each row, one per line, or a JSON list of them; rows of other items
            are left out. None: rows are in the order of ``items``.

    Returns:
        float32 [n_items, d], finite.

    Raises:
        UserError: For a file that is missing, broken, pickled or of the wrong shape, for items without a row, and for
            numbers that are not finite or too large.
    """
    path = path.expanduser()
    where = f"text_encoder=file:{path}"
    vectors = _open_matrix(path, where)
    if ids_file is not None:
        vectors = vectors[_rows_by_id(Path(ids_file).expanduser(), len(vectors), items, where)]
    elif len(vectors) != len(items):
        raise UserError(
            f"{where}: found {len(vectors)} rows, expected {len(items)}, one per item in the order of the .item file. "
            "If the rows are of other items or in another order, name a file of their item tokens in "
            "embedding_ids_file."
        )
    with np.errstate(over="ignore"):
        vectors = np.array(vectors, dtype=np.float32, order="C")  # read now; so far only the header was
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        examples = ", ".join(repr(items[row]) for row in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise UserError(
            f"{where}: found NaN or infinity in the rows of {len(bad)} item(s) ({examples}; the first is item number "
            f"{bad[0] + 1} of the catalogue). Expected finite float32 numbers: compute these rows again."
        )
    check_magnitude(vectors, where)
    return vectors


def check_magnitude(vectors: np.ndarray, where: str) -> None:
    """Refuse numbers so large that sums of their squares, which every quantizer computes, would overflow float32.

    Args:
        vectors: float32 [n, d], finite.
        where: What to name in the message.

    Raises:
        UserError: Naming the largest number.
    """
    largest = float(max(vectors.max(), -vectors.min())) if vectors.size else 0.0
    if largest > LARGEST:
        raise UserError(
            f"{where}: the largest number is {largest:.3g}, expected at most {LARGEST:.0e}: squares of larger ones "
            "are more than float32 can hold. Divide the embeddings by a constant."
        )


def _open_matrix(path: Path, where: str) -> np.ndarray:
    """Return a view of the file's numbers [n_rows, d], which are read when they are used.

    A header may claim any number of rows: a file that is too short for them is refused before memory is allocated.
    """
    try:
        vectors = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{where}: there is no such file.") from error
    except (ValueError, OSError, EOFError, OverflowError, MemoryError) as error:
        raise UserError(
            f"{where}: not a readable .npy file of numbers ({error}). Write it with numpy.save(path, array); "
            "pickled objects are not loaded."
        ) from error
    if not isinstance(vectors, np.ndarray):
        vectors.close()
        raise UserError(f"{where}: found an archive of arrays (.npz), expected one array (.npy).")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiub" or vectors.shape[1] == 0:
        raise UserError(
            f"{where}: found {vectors.dtype} of shape {list(vectors.shape)}, expected numbers of shape "
            "[items, dimensions]."
        )
    return vectors


def _rows_by_id(path: Path, n_rows: int, items: Sequence[str], where: str) -> list[int]:
    """Return the row of each item."""
    option = f"embedding_ids_file={path}"
    ids = _read_ids(path, option)
    if len(ids) != n_rows:
        raise UserError(
            f"{option}: found {len(ids)} item tokens, expected one for each of the {n_rows} rows of {where}."
        )
    row_of = {item: row for row, item in enumerate(ids)}
    if len(row_of) < n_rows:
        twice = next(item for row, item in enumerate(ids) if row_of[item] != row)
        raise UserError(f"{option}: item {twice!r} occurs more than once. Every row needs an item token of its own.")
    missing = [item for item in items if item not in row_of]
    if missing:
        examples = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{option}: {len(missing)} of the data set's {len(items)} items have no row ({examples}). "
            "Add their embeddings; item tokens must be the raw ids of the .item file."
        )
    return [row_of[item] for item in items]


def _read_ids(path: Path, option: str) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("["):
            # only line feeds end a line: str.splitlines also splits at characters that may occur in a token
            return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
        ids = json.loads(text)
    except FileNotFoundError as error:
        raise UserError(f"{option}: there is no such file.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{option}: cannot be read ({error}). Expected one item token a line, or a JSON list of them."
        ) from error
    if any(type(item) not in (str, int) for item in ids):
        raise UserError(f"{option}: found values that are not item tokens, expected a JSON list of strings.")
    return [str(item) for item in ids]
