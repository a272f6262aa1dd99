"""The last block of a language model, run only where its states are wanted.

Few tokens of a training sample carry loss. The other blocks have to run at all tokens, as later ones attend to their
keys and values; of the last block only the states of these few are read, so its queries, output projection and
feed-forward layer are needed at the marked places alone. The block itself is unmodified: it is run once up to its keys
and values, and then at the marked places with these as if they came from a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import additive_mask, attention_kernel, blocks_of, cache_name

KERNELS = ("sdpa", "eager")
"""Attention implementations of transformers that take a mask with a row per query."""


class _Handed(Exception):
    """Raised inside a block's forward once keys and values are known."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values


class _Handing:
    """Stands for a cache: hands over keys and values, appended to those that are cached already."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> None:
        if self._cache is not None:
            keys, values = self._cache.update(keys, values, *args, **kwargs)
        raise _Handed(keys, values)


class _Known:
    """Stands for a cache that has all keys and values already."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._all = keys, values

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._all


class LastBlock:
    """Runs a model's last block where its states are wanted.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
    """

    def __init__(self, lm: nn.Module) -> None:
        self._lm = lm
        blocks: list[Any] = blocks_of(lm)
        self._block = blocks[-1] if blocks else None
        self._signature = inspect.signature(blocks[-1].forward) if blocks else None

    def pays(self, where: Tensor) -> bool:
        """Return whether few enough of the tokens [B, T] are marked, and attention takes masks with a row for each."""
        few = 2 * int(where.sum(dim=1).max()) <= where.shape[1]
        return self._block is not None and attention_kernel(self._lm) in KERNELS and few

    @contextmanager
    def only_at(self, where: Tensor) -> Iterator[None]:
        """Within this context, compute states at the marked places only, bool [B, T]; 0 elsewhere."""
        assert self._block is not None
        self._block.forward = partial(self._forward, self._block.forward, where)
        try:
            yield
        finally:
            del self._block.forward

    def _forward(self, forward: Any, where: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        assert self._signature is not None
        given = self._signature.bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        hidden = given.pop(next(iter(given)))
        try:
            forward(hidden, **{**given, cache_name(): _Handing(given.get(cache_name()))})
        except _Handed as handed:
            keys, values = handed.keys, handed.values
        n_wanted = int(where.sum(dim=1).max())
        if not n_wanted:
            return torch.zeros_like(hidden)
        places = where.int().argsort(dim=1, descending=True, stable=True)[:, :n_wanted]
        mask = _rows_of(given.get("attention_mask"), places, keys.shape[2], where.shape[1], hidden.dtype)
        at_places = {name: _at(value, places, where.shape) for name, value in given.items()}
        at_places |= {cache_name(): _Known(keys, values), "attention_mask": mask}
        output = forward(_at(hidden, places, where.shape), **at_places)
        states: Tensor = output[0] if isinstance(output, tuple) else output
        real = where.gather(1, places)
        rows = torch.arange(len(where), device=where.device).unsqueeze(1).expand_as(places)
        whole = states.new_zeros(*where.shape, states.shape[-1])
        return whole.index_put((rows[real], places[real]), states[real])


def _at(value: Any, places: Tensor, shape: torch.Size) -> Any:
    """Return the entries at some places [B, Q] of a value that has one per token [B or 1, T, ...], else the value."""
    if isinstance(value, tuple):
        return tuple(_at(part, places, shape) for part in value)
    per_token = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] in ((1, shape[1]), shape)
    if not per_token:
        return value
    whole = value.expand(shape[0], *value.shape[1:])
    return whole[torch.arange(shape[0], device=places.device).unsqueeze(1), places]


def _rows_of(mask: Tensor | None, places: Tensor, n_keys: int, n_tokens: int, dtype: torch.dtype) -> Tensor:
    """Return the rows [B, 1, Q, S] of an attention mask [B or 1, 1, T, S]; None is causal."""
    if mask is None:
        visible = torch.arange(n_keys, device=places.device) <= (places + n_keys - n_tokens).unsqueeze(-1)
        return additive_mask(visible, dtype).unsqueeze(1)
    whole = mask.expand(len(places), *mask.shape[1:])
    return whole[torch.arange(len(places), device=places.device).unsqueeze(1), :, places].transpose(1, 2)
