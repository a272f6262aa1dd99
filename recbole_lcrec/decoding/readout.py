"""From what a forward returns to log-probabilities of the tokens that are asked about.

Only a few hundred of the vocabulary's tokens can follow a beam, but the softmax that scores them runs over all of it
(DESIGN.md, step 8). With the hidden states in hand, the logits of those few are computed apart, and the normaliser
in blocks of the vocabulary: the logits of all beams over all tokens never exist at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.decoding.architecture import base_model, evaluating

BLOCK_LOGITS = 2**19
"""Logits of a block: 2 MB in float32, about what stays in a processor's cache."""

BLOCK_TOKENS = 4096
"""Most tokens of a block."""

PROBE_LOGIT = 100.0
"""Largest logit of the probe that tells whether a model can be taken apart: beyond the soft caps in use (30 to 50)."""


class Readout(ABC):
    """Log-probabilities of next tokens from the states that a forward returns."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Return the logits [..., V] of states [..., D]."""

    @abstractmethod
    def log_probs(self, states: Tensor, tokens: Tensor, among: Tensor | None = None) -> Tensor:
        """Return the log-probabilities of some tokens.

        Args:
            states: [..., D].
            tokens: [C] vocabulary ids, int64.
            among: [N] vocabulary ids that the softmax runs over; None for the whole vocabulary.

        Returns:
            [..., C] in float32, or float64 if the states are.
        """


class LogitsReadout(Readout):
    """For forwards that return logits: D is the size of the vocabulary."""

    def logits(self, states: Tensor) -> Tensor:
        """Return the states."""
        return states

    def log_probs(self, states: Tensor, tokens: Tensor, among: Tensor | None = None) -> Tensor:
        """See the base class."""
        dtype = score_dtype(states.dtype)
        competing = states if among is None else states[..., among]
        return states[..., tokens].to(dtype) - competing.to(dtype).logsumexp(dim=-1, keepdim=True)


class HeadReadout(Readout):
    """For forwards that return hidden states, which a linear head turns into logits.

    Args:
        head: The model's output embeddings.
    """

    def __init__(self, head: nn.Linear) -> None:
        self._head = head

    def logits(self, states: Tensor) -> Tensor:
        """Return the head's output."""
        return self._head(states)

    def log_probs(self, states: Tensor, tokens: Tensor, among: Tensor | None = None) -> Tensor:
        """See the base class."""
        flat = states.flatten(0, -2)
        total = self._logsumexp(flat) if among is None else self._of(flat, among).logsumexp(dim=-1)
        return (self._of(flat, tokens) - total.unsqueeze(-1)).unflatten(0, states.shape[:-1])

    def _of(self, states: Tensor, rows: Tensor | slice) -> Tensor:
        """Return the logits [N, C] of some rows of the head in the dtype of scores."""
        bias = None if self._head.bias is None else self._head.bias[rows]
        logits = functional.linear(states, self._head.weight[rows], bias)
        return logits.to(score_dtype(logits.dtype))

    def _logsumexp(self, states: Tensor) -> Tensor:
        """Return the log of the summed exponentials [N] over the vocabulary, block by block."""
        n_tokens = self._head.weight.shape[0]
        block = min(max(BLOCK_LOGITS // max(len(states), 1), 256), BLOCK_TOKENS)
        parts = [
            self._of(states, slice(start, start + block)).logsumexp(dim=-1) for start in range(0, n_tokens, block)
        ]
        return torch.stack(parts, dim=-1).logsumexp(dim=-1)


@dataclass(frozen=True)
class SplitModel:
    """A causal LM taken apart: ``head(body(...).last_hidden_state)`` are its logits, as a probe has shown."""

    body: Callable[..., Any]
    head: nn.Module


_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def split_model(lm: nn.Module) -> SplitModel | None:
    """Return body and head of a model, or None if its logits are more than head(hidden) (scaling, soft caps).

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
    """
    inner = base_model(lm)
    parts = SplitModel(inner.base_model, inner.get_output_embeddings())
    if lm not in _known:
        _known[lm] = parts.head is not None and _is_split(lm, parts)
    return parts if _known[lm] else None


@torch.no_grad()
def _is_split(lm: nn.Module, parts: SplitModel) -> bool:
    """Compare the two ways to the logits on a small probe, without dropout.

    The answer is about the architecture, so it must not depend on the weights: a run that is loaded asks before it has
    them. Small logits, as a new model's are, pass a soft cap almost unchanged; hence the head is given larger states.
    """
    embeddings = base_model(lm).get_input_embeddings().weight
    probe = torch.arange(1, 9, device=embeddings.device).view(1, -1) % embeddings.shape[0]
    with evaluating(lm):
        states = parts.body(input_ids=probe, use_cache=False).last_hidden_state
        largest = float(parts.head(states).abs().max())
        if not 0 < largest < torch.inf:  # nothing to see
            return False
        larger = PROBE_LOGIT / largest
        hook = parts.head.register_forward_pre_hook(lambda head, inputs: (larger * inputs[0], *inputs[1:]))
        try:
            ours = parts.head(states)
            return torch.allclose(ours, lm(input_ids=probe, use_cache=False).logits, atol=1e-2, rtol=1e-4)
        finally:
            hook.remove()


def readout_of(parts: SplitModel) -> Readout | None:
    """Return the way from hidden states to log-probabilities; None for a head that is not a plain linear layer."""
    return HeadReadout(parts.head) if type(parts.head) is nn.Linear else None


def score_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 at least: 16-bit log-probabilities of a few hundred codes would be full of ties."""
    return torch.promote_types(dtype, torch.float32)
