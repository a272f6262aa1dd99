"""The files of a data set: their formats, and a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from recbole_lcrec.convert.columns import Interactions
from recbole_lcrec.convert.records import csv_cell
from recbole_lcrec.convert.selection import rows_in_order
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_folder, mend, storing
from recbole_lcrec.utils.locks import sole_lock
from recbole_lcrec.utils.progress import progress

SUFFIXES = (".inter", ".item", ".review", ".rejected", ".statistics.json", ".index.json", ".user.json")
"""Everything a conversion may write; other files in the folder are the user's."""

_LINES = 1 << 17  # lines formatted at once
_TOKEN_FIELDS = ("brand",)  # one value each; every other text is a sequence of words to RecBole


def check_target(folder: Path, name: str, overwrite: bool) -> None:
    """Refuse an unusable name, and a folder that already holds the data set.

    Raises:
        UserError: Also when the folder is a file.
    """
    if not name or Path(name).name != name or name != name.strip() or name.startswith("."):
        raise UserError(
            f"--name={name!r} is not the name of a data set; expected the name of a folder, such as Games."
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; expected a folder to write the data set into.")
    found = [name + suffix for suffix in SUFFIXES if (folder / (name + suffix)).exists()]
    if found and not overwrite:
        raise UserError(f"{folder} holds {', '.join(found)} already. Give --overwrite to replace, or another --name.")


@contextmanager
def dataset_folder(folder: Path, name: str, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write into; it replaces ``folder`` when the block succeeds.

    Other contents of ``folder`` stay there; all files of an earlier conversion go, even those not written again. What
    a killed conversion had moved aside is brought back first.

    Raises:
        UserError: If another conversion is writing there, or as :func:`check_target` does.
    """
    folder = folder.resolve()  # a link to a folder stays a link
    with ExitStack() as held:
        with storing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        held.enter_context(sole_lock(lock, str(folder), "conversion", "another --name or --output"))
        mend(folder)
        check_target(folder, name, overwrite)
        temporary = held.enter_context(atomic_folder(folder, keep_modes=True))  # the user's files keep their modes
        yield temporary
        ours = {name + suffix for suffix in SUFFIXES}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            target = temporary / path.name
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, target, symlinks=True, copy_function=_link)
            elif path.name not in ours:
                _link(str(path), str(target))


def _link(source: str, target: str) -> str:
    """Hard-link a file; copy it if the file system has no links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def write_interactions(path: Path, data: Interactions, keep: np.ndarray, show: bool) -> None:
    """Write the kept interactions, user by user in order of first appearance, each in time order."""
    users = data.user_tokens.reader()
    items = data.item_tokens.reader().take(range(data.n_items))
    header = ["user_id:token", "item_id:token", "timestamp:float"] + ["rating:float"] * (data.ratings is not None)
    bar = progress(description=path.name, show=show, total=int(keep.sum()), unit="lines")
    with path.open("w", encoding="utf-8", newline="") as file, bar:
        file.write("\t".join(header) + "\n")
        for block in rows_in_order(keep, data):
            ascending = np.sort(block)
            places = np.searchsorted(ascending, block)
            numbers = [column.take(ascending)[places] for column in (data.times, data.ratings) if column is not None]
            for start in range(0, len(block), _LINES):
                rows = block[start : start + _LINES]
                cells: list[Sequence[str]] = [users.take(data.users[rows].tolist())]
                cells.append([items[code] for code in data.items[rows].tolist()])
                cells += [_formatted(values[start : start + _LINES]) for values in numbers]
                file.write("".join(["\t".join(line) + "\n" for line in zip(*cells, strict=True)]))
                bar.update(len(rows))


def _formatted(values: np.ndarray) -> list[str]:
    """Return float64 values as the shortest text that reads back the same; whole ones without a point."""
    whole = values.astype(np.int64)
    if (whole == values).all():
        return list(map(str, whole.tolist()))
    return [str(int(value)) if value.is_integer() else repr(value) for value in values.tolist()]


def item_header(fields: Sequence[str]) -> str:
    """Return the first line of the ``.item`` file."""
    typed = [f"{name}:{'token' if name in _TOKEN_FIELDS else 'token_seq'}" for name in fields]
    return "\t".join(["item_id:token", *typed]) + "\n"


def text_line(*cells: str) -> str:
    """Return a line of ids and cleaned texts."""
    return "\t".join(map(csv_cell, cells)) + "\n"
