"""The learning rate of a step, and the kernels of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch


def learning_rate_factor(step: int, total: int, warmup: int, schedule: str) -> float:
    """Return the factor of the learning rate at a step: linear warm-up, then constant or a half cosine.

    Args:
        step: Optimizer steps done.
        total: Optimizer steps of the whole training.
        warmup: Optimizer steps of the warm-up.
        schedule: "constant" or "cosine".
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let Adam update all weights in one kernel, if the device has it: the same numbers but for rounding."""
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in _weights(optimizer))
    for group in (optimizer.defaults, *optimizer.param_groups):
        group["fused"], group["foreach"] = fused, None if not fused else False


def _weights(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    return (weight for group in optimizer.param_groups for weight in group["params"])


def grouped(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the batches of each optimizer step: lists of ``size``, the last of what is left."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
