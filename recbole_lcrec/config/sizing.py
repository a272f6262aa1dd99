"""Sizes that follow from the data: options that are ``~`` get their values when the data set has been read.

How flat an index should be, how wide a language model, and how long to train depend on how many items and
interactions there are. One rule gives all of them, so that 300 items and 100,000 items need no further option:

- Two levels of codes. The first has about one code per five items, rounded to a power of two from 16 to 4,096: flat,
  so that items differ early. The second has twelve times the items per code of the first, rounded up to such a power
  of two: room enough for the largest group.
- Width 128 below 50,000 training interactions, and below 200,000 if there are fewer than 20 per item; 512 from 2
  million on, else 256. Feed-forward layers are twice as wide.
- Dropout .4 of the inputs below 10,000 items, .2 from there on, and half as much in the layers: strong dropout slows
  down the learning of a large catalogue, weak dropout overfits a small one.
- A validation every 256 optimizer steps, rounded up to whole epochs; epochs for 40 validations, but at least 20.
  Training stops by validation (``stopping_step``), so this is only an upper limit, for data of any size.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_ITEMS_PER_CODE, _ROOM = 5, 12
_FEWEST, _MOST = 16, 4096
_FEW_PER_ITEM, _LARGE_CATALOGUE = 20, 10_000
_STEPS_PER_VALIDATION, _VALIDATIONS, _FEWEST_EPOCHS = 256, 40, 20


SIZED = (
    *("num_levels", "codebook_size", "lm_hidden_size", "lm_intermediate_size"),
    *("lm_dropout", "lm_layer_dropout", "eval_step", "epochs"),
)
"""Options that may be ``~`` and then follow from the data."""


@dataclass(frozen=True)
class DataSize:
    """The counts that sizes follow from.

    Attributes:
        items: Items that have interactions.
        interactions: Interactions of the training part.
        samples: Samples in a pass over the training part: windows of histories (``history_windows``) or interactions.
    """

    items: int
    interactions: int
    samples: int


TYPICAL = DataSize(5_000, 50_000, 8_000)
"""Stands for the data while they are not known yet, so that options can be checked together."""


def sizes_of(size: DataSize, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that follow from the size of the data.

    Args:
        size: Size of the data.
        options: All options. ``num_levels`` or ``codebook_size`` given alone leave the other as in the paper, the
            feed-forward layers follow the width that is given, and ``train_batch_size`` says how long an epoch is.
    """
    first = _power_of_two(size.items / _ITEMS_PER_CODE)
    second = _power_of_two(_ROOM * size.items / first, up=True)
    levels, codes = options.get("num_levels"), options.get("codebook_size")
    if levels is None:
        levels = 2 if codes is None else len(codes) if isinstance(codes, list) else 4
    narrow = 200_000 if size.interactions < _FEW_PER_ITEM * size.items else 50_000
    rule = 128 if size.interactions < narrow else 256 if size.interactions < 2_000_000 else 512
    width = options.get("lm_hidden_size") or rule
    dropout = 0.4 if size.items < _LARGE_CATALOGUE else 0.2
    batch = options["train_batch_size"] * options["gradient_accumulation_steps"]
    steps = math.ceil(max(size.samples, 1) / batch)
    between = math.ceil(_STEPS_PER_VALIDATION / steps)
    return {
        "num_levels": levels,
        "codebook_size": [first, second] if levels == 2 else 256,
        "lm_hidden_size": width,
        "lm_intermediate_size": 2 * width,
        "lm_dropout": dropout,
        "lm_layer_dropout": dropout / 2,
        "eval_step": between,
        "epochs": max(between * _VALIDATIONS, _FEWEST_EPOCHS),
    }


def unsized(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the options that are to follow from the data."""
    return tuple(name for name in SIZED if name in options and options[name] is None)


def chosen(names: Collection[str], size: DataSize, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options that follow from the data."""
    unset = {name: None for name in names}
    return {name: value for name, value in sizes_of(size, {**options, **unset}).items() if name in names}


def _power_of_two(number: float, *, up: bool = False) -> int:
    exponent = math.log2(max(number, 1))
    return min(max(2 ** (math.ceil(exponent) if up else round(exponent)), _FEWEST), _MOST)
