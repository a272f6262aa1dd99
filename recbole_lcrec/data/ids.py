"""Whether the ids of two places are the same ids: ``13.0`` and ``13`` are not, and neither are ``"B01"`` and ``b01``.

Two files of one data set need not name the same items. A file of items may describe only a part of the catalogue, or
a larger one than that of the interactions. So what counts is the share of the smaller side that the other side has,
and whether ids that the other side lacks would be there if they were written differently.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from recbole_lcrec.utils.errors import UserError

LEAST_SHARE = 0.05
"""Share of the smaller side's ids that the other side must have: catalogues that have little to do with each other
share fewer, and even a file of a tenth of the items, chosen without looking at the interactions, shares more."""

_NOTABLE = 0.1  # share of ids that must be missing before the way they are written is questioned
_ENOUGH = 20  # ids that the smaller side of a split needs for its share to mean something
_LIST_MARKS = "[](){}<>'\"` "


def check_same_ids(what: str, known: Collection[str], where: str, listed: Collection[str], file: str) -> None:
    """Refuse interactions whose ids hardly match those of the file that describes them.

    Args:
        what: "item" or "user".
        known: Ids of the interactions; repetitions do not matter.
        where: Name of the interactions' file.
        listed: Ids of the describing file.
        file: Its name.

    Raises:
        UserError: Showing two ids of each side.
    """
    ours, theirs = set(known), set(listed)
    shared = len(ours & theirs)
    least = LEAST_SHARE * min(len(ours), len(theirs))
    if not ours or not theirs:
        return
    lacking, others = ours - theirs, theirs - ours
    written = {_plain(one): one for one in sorted(others, reverse=True)}
    alike = [one for one in sorted(lacking) if _plain(one) in written]
    is_other_writing = len(lacking) >= _NOTABLE * len(ours) and len(alike) * 2 > len(lacking)
    if shared >= least and shared and not is_other_writing:
        return
    left = (alike if is_other_writing else sorted(lacking))[:2]
    right = [written[_plain(one)] for one in left] if is_other_writing else sorted(others)[:2]
    raise UserError(
        f"{shared} of {len(ours)} {what}s of {where} are in {file}: {_shown(left)} there, {_shown(right)} here. "
        f"Write the {what} ids exactly alike in both files (13.0 is not 13, and quotes and capitals count)."
    )


def check_histories(histories: Collection[str], targets: Collection[str], column: str, file: str) -> None:
    """Refuse a ready split whose histories are lists as text, or have the wrong separator.

    Args:
        histories: Ids that the histories were split into; repetitions do not matter.
        targets: Ids of the targets.
        column: Column of the histories.
        file: Name of the files.

    Raises:
        UserError: Showing two of them.
    """
    ours, theirs = set(histories), set(targets)
    lacking = sorted(ours - theirs)
    pieces = [one for one in lacking if any(piece in theirs for piece in _pieces(one))]
    smaller = min(len(ours), len(theirs))
    is_list = len(lacking) >= _NOTABLE * len(ours) and len(pieces) * 2 > len(lacking)
    if is_list or (smaller >= _ENOUGH and len(ours & theirs) < LEAST_SHARE * smaller):
        raise UserError(
            f"{file}: {len(lacking)} of {len(ours)} items in {column} are never a target, e.g. "
            f"{_shown((pieces if is_list else lacking)[:2])}; targets are {_shown(sorted(theirs)[:2])}. Expected item "
            "tokens separated by blanks (seq_separator), as in: i1 i2 i3; without brackets, quotes and commas."
        )


def _plain(one: str) -> str:
    """Return an id without what exports may add or drop: quotes, capitals, ``.0``, leading zeros."""
    text = one.strip(" \"'`").casefold()
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    return text.lstrip("0") or "0" if text.isdigit() else text


def _pieces(text: str) -> list[str]:
    return [piece.strip(_LIST_MARKS) for piece in re.split(r"[,;|]", text)]


def _shown(ids: Collection[str]) -> str:
    return " and ".join(repr(one[:60]) for one in ids) or "nothing"
