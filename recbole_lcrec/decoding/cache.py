"""The keys and values of a batch of prompts: written once, side by side with those of the beams, never moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _Filled(Exception):
    """Raised inside a model's forward when the last layer has handed over its keys and values."""


_whole: list[bool] = []


@contextmanager
def without_shortcut() -> Iterator[None]:
    """While the block runs, let every forward run to its end: FSDP, which tracks forwards, depends on it."""
    _whole.append(True)
    try:
        yield
    finally:
        _whole.pop()


class _Buffer(DynamicLayer):
    """Keys and values [B, H, capacity, d] of a layer, the first ``length`` of which are in use."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all of them."""
        if self._buffers is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._buffers = (self._empty(key_states), self._empty(value_states))
        end = self._length + key_states.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : end] = states
        self._cut(end)
        return self.tensors

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens so far."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens."""
        self._cut(self._length + tokens_to_remove)

    def get_seq_length(self) -> int:
        """Return the number of tokens."""
        return self._length

    def _empty(self, states: Tensor) -> Tensor:
        batch, heads, _, dim = states.shape
        return states.new_empty(batch, heads, self._capacity, dim)

    def _cut(self, length: int) -> None:
        assert self._buffers is not None and 0 <= length <= self._capacity
        self._length = length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class AppendedCache(Cache):
    """A cache of fixed capacity that is only appended to.

    Unlike transformers' own, it keeps every key, even in layers that attend to a sliding window: a cache that drops
    the oldest keys would count other beams' tokens as part of a beam's past.

    Args:
        n_layers: Layers of the model.
        capacity: Most tokens that a sequence will hold.
    """

    def __init__(self, n_layers: int, capacity: int) -> None:
        super().__init__(layer_class_to_replicate=partial(_Buffer, capacity))  # type: ignore[arg-type]
        self.n_layers = n_layers
        self._stops = False

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append a layer's keys and values; return all of that layer."""
        result = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if self._stops and not _whole and layer_idx == self.n_layers - 1:
            raise _Filled
        return result

    @property
    def buffers(self) -> list[_Buffer]:
        """The layers."""
        return self.layers  # type: ignore[return-value]

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens of all layers."""
        for layer in self.buffers:
            layer.crop(tokens_to_remove)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """End a forward as soon as the last layer's keys and values are known: nothing else is needed from it."""
        self._stops = True
        try:
            with suppress(_Filled):
                yield
        finally:
            self._stops = False

    def extend(self, keys_values: list[tuple[Tensor, Tensor]], batch: int) -> None:
        """Append tokens that all sequences share.

        Args:
            keys_values: Keys and values [1, H, T, d] per layer.
            batch: Number of sequences.
        """
        for layer, (keys, values) in enumerate(keys_values):
            super().update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
