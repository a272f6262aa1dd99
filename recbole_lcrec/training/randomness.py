"""The states of all random generators a training draws from, as values that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from recbole_lcrec.distributed import group


def random_states(loader: Any = None) -> dict[str, Any]:
    """Return the states of python's, numpy's and torch's generators, those of the GPUs, and those of a loader.

    Args:
        loader: A train data loader of RecBole's kind; it may be made of several.
    """
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": _cuda_states(),
        "loader": [generator.get_state() for generator in _generators(loader)],
    }


def set_random_states(states: dict[str, Any], loader: Any = None) -> None:
    """Put the generators into the states that ``random_states`` returned; without a loader, all except its own."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if group.several() and len(states["cuda"]) == 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
    elif states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    for generator, state in zip(_generators(loader), states["loader"], strict=False):
        generator.set_state(state)


def _cuda_states() -> list[torch.Tensor]:
    """Return the states of all GPUs; with several processes, that of the GPU which this one uses."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_rng_state()] if group.several() else torch.cuda.get_rng_state_all()


def _generators(loader: Any) -> list[torch.Generator]:
    """Return the generators of a loader and of the loaders it is made of (RecBole's for graphs has two)."""
    if loader is None:
        return []
    parts = [loader, *(value for _, value in sorted(vars(loader).items()))]
    found = [getattr(part, "generator", None) for part in parts if not isinstance(part, torch.Tensor)]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
