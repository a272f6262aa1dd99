"""Three ways to run many beams of one prompt through an unmodified causal language model.

Search and scoring only need the logits after each beam. How they come about is hidden behind `BeamForward`:

- ``fold``: the beams of a user are further query tokens of one sequence. Every beam's token gets the position that
  follows its prefix and a row of a 4D mask that shows it the prompt and its own ancestors. The prompt's keys and
  values exist once per user, and the cache is only ever appended to.
- ``expand``: the prompt runs once per user; then its cache is copied per beam and reordered as beams change, as
  transformers' generate does.
- ``recompute``: prompt and beam are run anew at every step. Slow, but it needs nothing except a plain forward.

Which of them a model supports is found out by `recbole_lcrec.decoding.mode.choose_mode`.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

Mode = Literal["fold", "expand", "recompute"]

MAX_ROWS = 256
"""Sequences that ``recompute`` runs in one forward; bounds its memory."""


class BeamForward(ABC):
    """The logits that follow the prompts and, step by step, the beams grown from them.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding and 1 elsewhere.
    """

    def __init__(self, lm: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> None:
        self._lm = lm
        self._accepted = accepted_arguments(lm)
        self._input_ids = input_ids
        self._attention_mask = attention_mask.long()
        self._lengths = self._attention_mask.sum(dim=1)
        self._depth = 0
        """Tokens that every beam has by now."""

    @abstractmethod
    def start(self) -> Tensor:
        """Run the prompts and return the logits [B, V] after their last token."""

    def advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Append one token to every beam and return the logits after it.

        Args:
            tokens: [B, K] the beams' new tokens.
            parents: [B, K] which beam of the previous step each one continues; 0, the prompt, at the first step.

        Returns:
            Logits [B, K, V].
        """
        logits = self._advance(tokens, parents)
        self._depth += 1
        return logits

    def rewind(self) -> None:
        """Forget all beams, so that the next `advance` continues the prompts again."""
        self._rewind()
        self._depth = 0

    @abstractmethod
    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor: ...

    @abstractmethod
    def _rewind(self) -> None: ...

    def _call(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **others: Any) -> Any:
        """Call the model with those of the optional arguments that it knows."""
        optional = {"position_ids": position_ids, **others}
        known = {name: value for name, value in optional.items() if name in self._accepted}
        return self._lm(input_ids=input_ids, attention_mask=attention_mask, **known)

    def _prompt_positions(self) -> Tensor:
        """Return positions [B, T] that count real tokens only; padding gets 0, and nothing real looks at it."""
        return (self._attention_mask.cumsum(dim=1) - 1).clamp(min=0)


class FoldedForward(BeamForward):
    """Beams as query tokens of one sequence per user."""

    _cache: Any
    _ancestry: Tensor
    """[B, K, S]: which of the S beam tokens appended so far belong to each of the last step's K beams."""

    def start(self) -> Tensor:
        from transformers import DynamicCache

        # Without a config the cache keeps every key, also in layers that attend to a sliding window. A cache that
        # drops the oldest keys would count the other beams' tokens as part of this beam's past.
        self._cache = DynamicCache()
        output = self._call(
            self._input_ids,
            self._attention_mask,
            self._prompt_positions(),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._no_beams()
        return output.logits[:, -1]

    def _no_beams(self) -> None:
        batch = len(self._input_ids)
        self._ancestry = torch.zeros(batch, 1, 0, dtype=torch.bool, device=self._input_ids.device)

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        n_beams = tokens.shape[1]
        inherited = self._ancestry.gather(1, parents.unsqueeze(-1).expand(-1, -1, self._ancestry.shape[-1]))
        itself = torch.eye(n_beams, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        self._ancestry = torch.cat([inherited, itself], dim=-1)
        positions = (self._lengths + self._depth).unsqueeze(1).expand(-1, n_beams)
        output = self._call(tokens, self._mask(), positions, past_key_values=self._cache, use_cache=True)
        return output.logits

    def _mask(self) -> Tensor:
        """Return the additive mask [B, 1, K, T + S]: 0 on the prompt and on ancestors, the lowest value elsewhere.

        transformers passes a 4D mask on as it is (masking_utils._preprocess_mask_arguments). Eager attention adds
        it to the weights, so it must be a float; the fused kernels take that form too.
        """
        prompt = self._attention_mask.bool().unsqueeze(1).expand(-1, self._ancestry.shape[1], -1)
        visible = torch.cat([prompt, self._ancestry], dim=-1).unsqueeze(1)
        dtype = model_dtype(self._lm)
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)

    def _rewind(self) -> None:
        self._cache.crop(-self._ancestry.shape[-1])
        self._no_beams()


class ExpandedForward(BeamForward):
    """Beams as rows of the batch, each with a copy of its user's cache."""

    _cache: Any
    _n_beams: int
    """Rows per user that ``_cache`` has."""

    def start(self) -> Tensor:
        # The cache is the one that the model makes for itself: the right kind for sliding or linear attention.
        output = self._call(
            self._input_ids, self._attention_mask, self._prompt_positions(), use_cache=True, logits_to_keep=1
        )
        self._prompt_cache = output.past_key_values
        self._rewind()
        return output.logits[:, -1]

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        batch, n_beams = tokens.shape
        if self._depth == 0:
            self._cache = copy.deepcopy(self._prompt_cache)
        # Selecting rows of the previous step copies the prompt's cache to its beams, or reorders beams, in one go.
        first_row = torch.arange(batch, device=tokens.device).unsqueeze(1) * self._n_beams
        self._cache.reorder_cache((first_row + parents).flatten())
        self._n_beams = n_beams
        mask = extended_mask(self._attention_mask, n_beams, self._depth + 1)
        positions = (self._lengths + self._depth).repeat_interleave(n_beams).unsqueeze(1)
        output = self._call(tokens.reshape(-1, 1), mask, positions, past_key_values=self._cache, use_cache=True)
        return output.logits[:, -1].unflatten(0, (batch, n_beams))

    def _rewind(self) -> None:
        self._cache = None
        self._n_beams = 1


class RecomputedForward(BeamForward):
    """Beams as rows of the batch, run from the first token of the prompt at every step."""

    _beams: Tensor
    """[B, K, depth]: the tokens of every beam."""

    def start(self) -> Tensor:
        self._rewind()
        return self._last_logits(self._input_ids, self._attention_mask, self._prompt_positions())

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        batch, n_beams = tokens.shape
        inherited = self._beams.gather(1, parents.unsqueeze(-1).expand(-1, -1, self._depth))
        self._beams = torch.cat([inherited, tokens.unsqueeze(-1)], dim=-1)
        input_ids = torch.cat([self._input_ids.repeat_interleave(n_beams, 0), self._beams.flatten(0, 1)], dim=1)
        mask = extended_mask(self._attention_mask, n_beams, self._depth + 1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        pieces = zip(input_ids.split(MAX_ROWS), mask.split(MAX_ROWS), positions.split(MAX_ROWS), strict=True)
        return torch.cat([self._last_logits(*piece) for piece in pieces]).unflatten(0, (batch, n_beams))

    def _last_logits(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
        return self._call(input_ids, attention_mask, position_ids, use_cache=False, logits_to_keep=1).logits[:, -1]

    def _rewind(self) -> None:
        self._beams = self._input_ids.new_zeros(len(self._input_ids), 1, 0)


FORWARDS: dict[Mode, type[BeamForward]] = {
    "fold": FoldedForward,
    "expand": ExpandedForward,
    "recompute": RecomputedForward,
}


def extended_mask(attention_mask: Tensor, n_beams: int, depth: int) -> Tensor:
    """Return the mask [B * K, T + depth] of prompts [B, T] repeated per beam and followed by ``depth`` tokens."""
    repeated = attention_mask.repeat_interleave(n_beams, dim=0)
    return torch.cat([repeated, repeated.new_ones(len(repeated), depth)], dim=1)


def base_model(lm: nn.Module) -> Any:
    """Return the transformers model, without peft's wrapper. Any, as its attributes depend on the architecture."""
    unwrap: Any = getattr(lm, "get_base_model", None)
    return lm if unwrap is None else unwrap()


def model_dtype(lm: nn.Module) -> torch.dtype:
    """Return the dtype of the hidden states that attention adds its mask to: that of the embeddings."""
    return base_model(lm).get_input_embeddings().weight.dtype


class _Everything:
    """The names that a function with ``**kwargs`` accepts."""

    def __contains__(self, name: object) -> bool:
        return True


def accepted_arguments(lm: nn.Module) -> set[str] | _Everything:
    """Return the names of the arguments that the model's own forward accepts, seen through peft's wrapper."""
    parameters = inspect.signature(base_model(lm).forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return _Everything()
    return set(parameters)
