"""Which options cannot go with data that are split already (``benchmark_filename``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lcrec.utils.errors import UserError

_FILTERS = ("user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter")
_NO_FILTER: tuple[Any, ...] = (None, "[0,inf)", "[0, inf)", {})


def refuse_filters(options: Mapping[str, Any]) -> None:
    """Refuse options that would change a ready split.

    Raises:
        UserError: Naming the options that are set.
    """
    found = [name for name in _FILTERS if options.get(name) not in _NO_FILTER]
    if found:
        settings = " ".join(f"--{name}=~" for name in found)
        raise UserError(
            f"option benchmark_filename: the split is ready, so {', '.join(found)} cannot apply (RecBole would skip "
            f"them silently). Take them out, e.g. with {settings}, or give the whole data in one .inter file."
        )
    if len(options["benchmark_filename"]) != 3:
        raise UserError(
            f"option benchmark_filename is {options['benchmark_filename']}; expected three names, of the training, "
            "validation and test files, e.g. [train, valid, test]."
        )
