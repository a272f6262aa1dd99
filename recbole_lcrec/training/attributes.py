"""What a model changes in training, apart from its parameters: counters, histories, caches kept as plain attributes.

RecBole's models keep such state wherever they like: the annealing step of MultiVAE, the loss history of DiffRec, the
attention of KGAT. None of it is in a state dict, and a training resumed without it takes a different course. Instead
of a list of models, every plain attribute of every module is watched.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
import torch

_SCALARS = (type(None), bool, int, float, str)
_LONG = 100_000
"""Length of a list or dictionary above which it is not inspected: those are tables of the data, not state."""


class ModelAttributes:
    """Knows which attributes of a model have changed since it was built.

    Attributes that begin with an underscore are caches and torch's internals, and are left alone.

    Args:
        model: The model, as it was built.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._marks = {name: _mark(value) for name, value in _plain(model)}
        self._taken_up: set[str] = set()

    def changed(self) -> dict[str, Any]:
        """Return name -> value of every attribute that is not as it was.

        Values may be of any type; whether they can be stored is for the caller to find out.
        """
        return {
            name: value
            for name, value in _plain(self._model)
            if name in self._taken_up or not _same(self._marks.get(name), _mark(value))
        }

    def take_up(self, values: dict[str, Any]) -> None:
        """Set attributes to what ``changed`` returned in an earlier process."""
        modules = dict(self._model.named_modules())
        for name, value in values.items():
            module, _, attribute = name.rpartition("/")
            current = getattr(modules[module], attribute, None)
            if isinstance(value, torch.Tensor) and isinstance(current, torch.Tensor):
                value = value.to(current.device)
            setattr(modules[module], attribute, value)
            self._taken_up.add(name)


def _plain(model: Any) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and name != "training":
                yield f"{path}/{name}", value
        for name in sorted(module._non_persistent_buffers_set):
            yield f"{path}/{name}", module._buffers[name]


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second


class _Identity:
    """Equal to another of the same object and version; keeps the object, so that no other gets its address."""

    def __init__(self, value: Any, version: int = 0) -> None:
        self.value, self.version = value, version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


def _mark(value: Any) -> Any:
    """Return something that compares unequal once the value has changed, in place or not."""
    if isinstance(value, _SCALARS):
        return (type(value), repr(value))
    if isinstance(value, torch.Tensor):
        # a tensor counts its changes, unless it was made in inference mode
        return _Identity(value, 0 if value.is_inference() else value._version)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (value.shape, value.dtype.str, zlib.crc32(np.ascontiguousarray(value).data))
    if scipy.sparse.issparse(value) and hasattr(value, "data") and isinstance(value.data, np.ndarray):
        return _Identity(value, zlib.crc32(np.ascontiguousarray(value.data).data))
    if isinstance(value, (torch.Generator, np.random.Generator)):
        return repr(value.get_state().tolist() if isinstance(value, torch.Generator) else value.bit_generator.state)
    if isinstance(value, (list, tuple, dict)) and len(value) > _LONG:
        return _Identity(value, len(value))
    if isinstance(value, (list, tuple)):
        return (type(value), [_mark(part) for part in value])
    if isinstance(value, dict):
        return [(repr(key), _mark(part)) for key, part in value.items()]
    return _Identity(value)
