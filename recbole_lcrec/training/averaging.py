"""Weights other than those of the last step: a copy to compare with, and the average that is validated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightCopy:
    """A copy of a model's trained weights, which can take their place for a while. Buffers are not copied.

    Args:
        model: The model that is trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights: dict[str, Tensor] = {
            name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._copies = {name: weight.clone() for name, weight in self._weights.items()}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Return a context in which the model uses the copies as its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> dict[str, Any]:
        """Return what ``load`` continues from."""
        return dict(self._copies)

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        for name, copy in self._copies.items():
            copy.copy_(torch.as_tensor(state[name]))

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._copies[name])
            self._copies[name].copy_(kept)


class WeightAverage(WeightCopy):
    """The exponential moving average of a model's trained weights (Polyak and Juditsky, 1992).

    A step's weights carry the noise of its batch; their average does not, and generalises better where data are few.
    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten. Buffers are not
    averaged.

    Args:
        model: The model that is trained.
        decay: Share of the average that a step keeps, in [0, 1); with 0 there is no average, and the model always has
            the weights of the last step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model if decay else nn.Module())
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of an optimizer step."""
        if not self._weights:
            return
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(list(self._copies.values()), list(self._weights.values()), 1 - decay)

    def state(self) -> dict[str, Any]:
        """See the base class."""
        return {"steps": self._steps, **super().state()}

    def load(self, state: dict[str, Any]) -> None:
        """See the base class."""
        self._steps = int(state["steps"])
        super().load(state)
