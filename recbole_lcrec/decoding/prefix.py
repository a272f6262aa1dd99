"""The instruction that prompts begin with: run once, however many prompts there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import cache_name

if TYPE_CHECKING:
    from recbole_lcrec.decoding.cache import AppendedCache

SAMPLED = 64
"""Roughly how many elements of each weight are sampled to see whether it has changed."""


class SharedPrefix:
    """Tokens that many prompts begin with; their keys and values are computed once and kept.

    They are computed again when the model's weights, their location, or the precision has changed.

    Args:
        ids: [P] token ids, int64; may be empty.
    """

    def __init__(self, ids: Tensor) -> None:
        assert ids.dim() == 1
        self.ids = ids
        self._made_with: Any = None
        self._keys_values: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def prepend(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return left-padded prompts [B, P + T] with this prefix between padding and prompt, and their mask."""
        batch, width = input_ids.shape
        lengths = attention_mask.sum(dim=1, keepdim=True)
        place = torch.arange(len(self) + width, device=input_ids.device)
        start = width - lengths  # of the prefix
        in_prefix = (place >= start) & (place < start + len(self))
        ids = torch.cat([input_ids.new_zeros(batch, len(self)), input_ids], dim=1)
        prefix = self.ids.to(input_ids.device)[(place - start).clamp(0, max(len(self) - 1, 0))] if len(self) else ids
        return torch.where(in_prefix, prefix, ids), (place >= start).to(attention_mask.dtype)

    @torch.no_grad()
    def fill(self, cache: AppendedCache, batch: int, lm: nn.Module, body: Any) -> None:
        """Append the prefix to every sequence of an empty cache.

        Args:
            cache: The cache.
            batch: Number of sequences.
            lm: The language model, to see whether it has changed.
            body: Runs token ids through it.
        """
        if not len(self):
            return
        from recbole_lcrec.decoding.cache import AppendedCache

        state = _state_of(lm)
        if state != self._made_with:
            own = AppendedCache(cache.n_layers, len(self))
            device = next(lm.parameters()).device
            with own.filling():
                body(input_ids=self.ids.to(device)[None], use_cache=True, **{cache_name(): own})
            self._keys_values = [layer.tensors for layer in own.buffers]
            self._made_with = state
        cache.extend(self._keys_values, batch)


def _state_of(lm: nn.Module) -> tuple[Any, ...]:
    """Return what keys and values depend on.

    Every in-place change of a weight raises its version, except by fused optimizers; so a sample of the weights is
    included, too.
    """
    weights = list(lm.parameters())
    device = weights[0].device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    flat = [weight.detach().reshape(-1) for weight in weights]
    sums = torch.stack([part[:: max(len(part) // SAMPLED, 1)].sum(dtype=torch.float32) for part in flat])
    return precision, tuple(sums.tolist()), *((weight.data_ptr(), weight._version) for weight in weights)
