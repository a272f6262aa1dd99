"""Training in bfloat16 with float32 masters (``precision: bf16_weights``): autocast leaves much of a step in float32.

Autocast rounds the inputs of matrix products and keeps the states between them in float32. Here the whole forward
runs on weights rounded to bfloat16, and so do the states, the norms and the additions. The parameters of the model
stay float32: optimizer, averages, clipping and checkpoints are not affected, and gradients of several batches are
added up in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

HALF = torch.bfloat16


class HalfWeights:
    """Calls a model's loss with bfloat16 copies of its weights, through which gradients reach the weights.

    What is recomputed in the backward pass (gradient checkpointing) would find the float32 weights there.

    Args:
        model: The model, all of it trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._holder = _Holder(model)

    def loss(self, loss_func: Callable, batch: Any) -> Any:
        """Return what ``loss_func``, a method of the model, returns for a batch, in float32."""
        weights = {
            name: weight.to(HALF) for name, weight in self._holder.named_parameters() if weight.dtype == torch.float32
        }
        losses = functional_call(self._holder, weights, (loss_func, batch))
        return tuple(loss.float() for loss in losses) if isinstance(losses, tuple) else losses.float()


class _Holder(nn.Module):
    """A module whose forward is any function of the model: what ``functional_call`` can call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_func: Callable, batch: Any) -> Any:
        return loss_func(batch)
