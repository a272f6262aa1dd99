"""The device of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from recbole_lcrec.distributed import group
from recbole_lcrec.utils.errors import UserError


def device_of(options: dict[str, Any]) -> torch.device:
    """Return the device of ``use_gpu`` and ``gpu_id``; gpu_id counts among the devices that are visible."""
    gpu_id = str(options["gpu_id"])
    options["gpu_id"] = gpu_id
    if gpu_id and not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", gpu_id):
        raise UserError(f"option gpu_id is {gpu_id}; expected a number such as 0.")
    if not options["use_gpu"] or not gpu_id or not torch.cuda.is_available():
        return torch.device("cpu")
    index, place = _gpu([int(number) for number in gpu_id.split(",")]), group.place()
    if index >= torch.cuda.device_count():
        per = f" for the {place.local_size} processes" if group.several() else ""
        raise UserError(
            f"option gpu_id is {gpu_id}{per}, but {torch.cuda.device_count()} GPU(s) are visible, counted from 0. "
            "Set gpu_id, or use_gpu=False."
        )
    if group.several():
        torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _gpu(numbers: Sequence[int]) -> int:
    """Return the number of this process's GPU: of several, its own; of one, that many further on."""
    place = group.place()
    if len(numbers) == 1 or not group.several():
        return numbers[0] + place.local_rank
    if len(numbers) < place.local_size:
        raise UserError(f"option gpu_id names {len(numbers)} GPU(s) for {place.local_size} processes.")
    return numbers[place.local_rank]
