"""From what a forward returns to log-probabilities of the tokens that are asked about.

Only a few hundred of the vocabulary's tokens can follow a beam, but the softmax that scores them runs over all of it
(DESIGN.md, step 8). With the hidden states in hand, the logits of those few are computed separately, and the
normaliser in blocks of the vocabulary: the logits of all beams over all tokens never exist at once.

In a trained model, the weight of the other tokens is a small correction to that of those few: it is computed
separately, in bfloat16 where the processor has it, and again in float32 where it is not small enough for that.
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
from recbole_lcrec.utils.bfloat16 import native_bfloat16

BLOCK_LOGITS = 2**19
"""Logits of a block: 2 MB in float32, about what stays in a processor's cache."""

BLOCK_TOKENS = 4096
"""Most tokens of a block."""

HALF_ERROR, HALF_TOLERANCE, HALF_SAMPLE = 5e-3, 2e-5, 32
"""Largest relative error of the other tokens' weight in bfloat16 (seen: 2.1e-2 after 40 steps of training, 1.5e-3
after 150, so a check on some states decides); the largest error that it may cause in a log-probability; and about how
many states are checked."""

HALF_OFFSET = 8.0
"""Logits are rounded to bfloat16 relative to a point this far below the known sum: most of the others lie there."""

HALF_PAYS = 2**20
"""Number of logits from which a bfloat16 copy of the head pays off."""

PROBE_LOGIT = 100.0
"""Largest logit of the probe that shows whether a model can be taken apart: beyond the soft caps in use (30 to 50)."""


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
        self._copied: tuple[Any, Tensor] | None = None

    def logits(self, states: Tensor) -> Tensor:
        """Return the head's output."""
        return self._head(states)

    def log_probs(self, states: Tensor, tokens: Tensor, among: Tensor | None = None) -> Tensor:
        """See the base class."""
        flat = states.flatten(0, -2)
        asked = self._of(flat, tokens)
        if among is not None:
            total = self._of(flat, among).logsumexp(dim=-1)
        else:
            competing = tokens.unique()
            of_competing = asked if len(competing) == len(tokens) else self._of(flat, competing)
            total = self._logsumexp(flat, competing, of_competing.logsumexp(dim=-1))
        return (asked - total.unsqueeze(-1)).unflatten(0, states.shape[:-1])

    def _of(self, states: Tensor, rows: Tensor | slice) -> Tensor:
        """Return the logits [N, C] of some rows of the head in the dtype of scores."""
        bias = None if self._head.bias is None else self._head.bias[rows]
        logits = functional.linear(states, self._head.weight[rows], bias)
        return logits.to(score_dtype(logits.dtype))

    def _logsumexp(self, states: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        """Return the log of the summed exponentials [N] over the vocabulary, given the one over some tokens.

        Args:
            states: [N, D].
            tokens: [C] vocabulary ids in ascending order.
            known: [N] log of the summed exponentials over these.
        """
        device = states.device.type
        whole = self._head.weight
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else whole.dtype
        with torch.autocast(device, enabled=False):
            if dtype.itemsize == 2:
                others = self._others(states, tokens, known, self._weight_in(dtype), HALF_OFFSET)
            elif self._takes_half(states):
                others = self._others_in_half(states, tokens, known)
            else:
                others = self._others(states, tokens, known, whole)
            total = known + others.log1p()
            lost = ~total.isfinite()  # other tokens are much likelier than the known ones
            if bool(lost.any()):
                total[lost] = self._stable(states[lost].to(dtype))
        return total

    def _takes_half(self, states: Tensor) -> bool:
        """Return whether to weigh the other tokens in bfloat16 first."""
        n_logits = len(states) * len(self._head.weight)
        plain = states.dtype == torch.float32 and states.device.type == "cpu" and not torch.is_grad_enabled()
        return plain and n_logits >= HALF_PAYS and native_bfloat16(states.device)

    def _others_in_half(self, states: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        """Return what ``_others`` does, in bfloat16 where that hardly changes a log-probability.

        A few states are weighed in float32, too: they show whether bfloat16 is worth trying, and whether its error is
        as expected.
        """
        whole, some = self._head.weight, slice(None, None, max(1, len(states) // HALF_SAMPLE))
        exact = self._others(states[some], tokens, known[some], whole)
        if HALF_ERROR * float(exact.median()) > HALF_TOLERANCE:
            return self._others(states, tokens, known, whole)
        others = self._others(states, tokens, known, self._weight_in(torch.bfloat16), HALF_OFFSET)
        wrong = ~(HALF_ERROR * others <= HALF_TOLERANCE)
        if not torch.allclose(others[some], exact, rtol=HALF_ERROR, atol=HALF_TOLERANCE):
            wrong = torch.ones_like(wrong)
        if bool(wrong.any()):
            others[wrong] = self._others(states[wrong], tokens, known[wrong], whole)
        return others

    def _weight_in(self, dtype: torch.dtype) -> Tensor:
        """Return the head's weight in a number format; the copy is kept until the weight changes."""
        weight = self._head.weight
        state = dtype, weight.data_ptr(), weight._version
        if self._copied is None or self._copied[0] != state:
            self._copied = state, weight.detach().to(dtype)
        return self._copied[1]

    def _others(self, states: Tensor, tokens: Tensor, known: Tensor, weight: Tensor, offset: float = 0.0) -> Tensor:
        """Return the summed exponentials [N] of all tokens but some, relative to the sum of those.

        Args:
            states: [N, D].
            tokens: [C] vocabulary ids to leave out, in ascending order.
            known: [N] log of the summed exponentials over these.
            weight: The head's, in the number format to multiply in.
            offset: How far below ``known`` lies the point relative to which logits are rounded and summed.
        """
        states, shift = states.to(weight.dtype), (offset - known).to(weight.dtype)
        block = min(max(BLOCK_LOGITS // max(len(states), 1), 256), BLOCK_TOKENS)
        starts = range(0, len(weight), block)
        edges = torch.searchsorted(tokens, torch.tensor([*starts, len(weight)], device=tokens.device)).tolist()
        total = torch.zeros_like(known)
        for start, first, last in zip(starts, edges, edges[1:], strict=False):
            rows = weight[start : start + block]
            added = shift.unsqueeze(1).expand(-1, len(rows))
            if self._head.bias is not None:
                added = added + self._head.bias[start : start + block].to(weight.dtype)
            logits = torch.addmm(added, states, rows.t())
            if first < last:
                logits[:, tokens[first:last] - start] = -torch.inf
            total += logits.exp().sum(dim=-1, dtype=total.dtype)
        return total * (-shift.to(known.dtype) - known).exp()

    def _stable(self, states: Tensor) -> Tensor:
        """Return the log of the summed exponentials [N] over the vocabulary, for logits of any size."""
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
    """Return body and head of a model, or None if its logits are not just head(hidden) (scaling, soft caps).

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

    The answer is about the architecture, so it must not depend on the weights: loading a run asks before they are
    there. Small logits, like a new model's, pass a soft cap almost unchanged; hence the head is given larger states.
    """
    embeddings = base_model(lm).get_input_embeddings().weight
    probe = torch.arange(1, 9, device=embeddings.device).view(1, -1) % embeddings.shape[0]
    with evaluating(lm):
        states = parts.body(input_ids=probe, use_cache=False).last_hidden_state
        largest = float(parts.head(states).abs().max())
        if not 0 < largest < torch.inf:  # nothing to compare
            return False
        larger = PROBE_LOGIT / largest
        hook = parts.head.register_forward_pre_hook(lambda head, inputs: (larger * inputs[0], *inputs[1:]))
        try:
            ours = parts.head(states)
            return torch.allclose(ours, lm(input_ids=probe, use_cache=False).logits, atol=1e-2, rtol=1e-4)
        finally:
            hook.remove()


def readout_of(parts: SplitModel) -> Readout | None:
    """Return the readout for hidden states; None for a head that is not a plain linear layer."""
    return HeadReadout(parts.head) if type(parts.head) is nn.Linear else None


def score_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return at least float32: 16-bit log-probabilities of a few hundred codes would be full of ties."""
    return torch.promote_types(dtype, torch.float32)
