"""Averaged weights: what a training validates and saves in place of the last step's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
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
        self._decay = decay
        self._steps = 0
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad and decay}
        self._weights: dict[str, Tensor] = {name: weight.detach() for name, weight in trained.items()}
        self._averages = {name: weight.clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of an optimizer step."""
        if not self._weights:
            return
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Return a context in which the model has the averages for weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> dict[str, Tensor | int]:
        """Return what ``load`` goes on from."""
        return {"steps": self._steps, **self._averages}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor | int]) -> None:
        """Go on from what ``state`` returned."""
        self._steps = int(state["steps"])
        for name, average in self._averages.items():
            average.copy_(torch.as_tensor(state[name]))

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(kept)
