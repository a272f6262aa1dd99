"""Three ways to run many beams of one prompt through an unmodified causal language model.

Search and scoring only need what follows each beam: states, which the forward's `Readout` turns into
log-probabilities. How they come about is hidden behind `BeamForward`:

- ``fold``: the beams of a user are further query tokens of one sequence. Every beam's token gets the position that
  follows its prefix and a row of a 4D mask that shows it the prompt and its own ancestors. The prompt's keys and
  values exist once per user, those of an instruction that all prompts begin with once per model, and the cache is
  only ever appended to. Prompt states that no later token attends to are not computed.
- ``expand``: the prompt runs once per user; then its cache is copied per beam and reordered as beams change, as
  transformers' generate does.
- ``recompute``: prompt and beam are run anew at every step. Slow, but it needs no cache, mask or position ids to work.

`recbole_lcrec.decoding.mode.choose_mode` finds out which of them a model supports.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import accepted_arguments, additive_mask, cache_name, model_dtype, n_layers
from recbole_lcrec.decoding.prefix import SharedPrefix
from recbole_lcrec.decoding.readout import LogitsReadout, Readout, readout_of, split_model

Mode = Literal["fold", "expand", "recompute"]

MAX_ROWS = 256
"""Most sequences that ``recompute`` runs in one forward; bounds its memory."""


class BeamForward(ABC):
    """The states that follow the prompts and, step by step, the beams grown from them.

    Attributes:
        readout: Turns states into log-probabilities. The states are hidden states if the model can be taken apart
            into body and head, and logits otherwise.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding and 1 elsewhere.
        extra_tokens: Most tokens that all beams of a user will append.
        prefix: Tokens that all prompts begin with and that ``input_ids`` leaves out.
    """

    readout: Readout = LogitsReadout()

    def __init__(
        self,
        lm: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        extra_tokens: int,
        prefix: SharedPrefix | None = None,
    ) -> None:
        if prefix is not None and len(prefix):
            input_ids, attention_mask = prefix.prepend(input_ids, attention_mask)
        self._lm = lm
        self._accepted = accepted_arguments(lm)
        split = split_model(lm)
        readout = readout_of(split) if split else None
        self._body: Any = split.body if split and readout else lm
        self._result = "last_hidden_state" if readout else "logits"
        self.readout = readout or LogitsReadout()
        self._input_ids = input_ids
        self._attention_mask = attention_mask.long()
        self._lengths = self._attention_mask.sum(dim=1)
        self._extra_tokens = extra_tokens
        self._depth = 0
        """Tokens that every beam has so far."""

    @abstractmethod
    def start(self) -> Tensor:
        """Run the prompts and return the states [B, D] after their last token."""

    def advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Append one token to every beam and return the states after it.

        Args:
            tokens: [B, K] the beams' new tokens.
            parents: [B, K] which beam of the previous step each one continues; 0, the prompt, at the first step.

        Returns:
            States [B, K, D].
        """
        states = self._advance(tokens, parents)
        self._depth += 1
        return states

    def rewind(self) -> None:
        """Forget all beams, so that the next `advance` continues the prompts again."""
        self._rewind()
        self._depth = 0

    @abstractmethod
    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor: ...

    @abstractmethod
    def _rewind(self) -> None: ...

    def _call(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **others: Any) -> Any:
        """Call the model's body with the optional arguments that it accepts."""
        optional = {"position_ids": position_ids, **others}
        known = {name: value for name, value in optional.items() if name in self._accepted}
        return self._body(input_ids=input_ids, attention_mask=attention_mask, **known)

    def _last(self, output: Any) -> Tensor:
        """Return the states [B, D] after the last tokens of the body's output."""
        states: Tensor = output[self._result]
        return states[:, -1]

    def _no_other_logits(self) -> dict[str, int]:
        """Return arguments that keep a model with a head from computing logits except the last token's."""
        return {"logits_to_keep": 1} if self._result == "logits" else {}

    def _prompt_positions(self) -> Tensor:
        """Return positions [B, T] that count real tokens only; padding gets 0, and no real token attends to it."""
        return (self._attention_mask.cumsum(dim=1) - 1).clamp(min=0)


class FoldedForward(BeamForward):
    """Beams as query tokens of one sequence per user."""

    _cache: Any
    _ancestry: Tensor
    """[B, K, S]: which of the S beam tokens appended so far belong to each of the last step's K beams."""

    def __init__(
        self,
        lm: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        extra_tokens: int,
        prefix: SharedPrefix | None = None,
    ) -> None:
        super().__init__(lm, input_ids, attention_mask, extra_tokens)
        self._prefix = prefix or SharedPrefix(input_ids.new_zeros(0))
        real = self._attention_mask
        self._attention_mask = torch.cat([real.new_ones(len(real), len(self._prefix)), real], dim=1)
        self._lengths = self._lengths + len(self._prefix)

    def start(self) -> Tensor:
        """Run the prompts and return the states [B, D] after their last token."""
        from recbole_lcrec.decoding.cache import AppendedCache

        batch, width = self._input_ids.shape
        self._cache = AppendedCache(n_layers(self._lm), self._attention_mask.shape[1] + self._extra_tokens)
        self._prefix.fill(self._cache, batch, self._lm, self._body)
        positions = self._prompt_positions()[:, len(self._prefix) :]
        if width > 1:
            # Tokens before the last are only attended to: their final states are not needed
            with self._cache.filling():
                self._run(self._input_ids[:, :-1], self._attention_mask[:, :-1], positions[:, :-1])
        states = self._run(self._input_ids[:, -1:], self._attention_mask, positions[:, -1:])
        self._no_beams()
        return states[:, -1]

    def _run(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
        """Append tokens to the cache and return the states after each, [B, T, D]."""
        output = self._call(input_ids, attention_mask, position_ids, use_cache=True, **{cache_name(): self._cache})
        states: Tensor = output[self._result]
        return states

    def _no_beams(self) -> None:
        batch = len(self._input_ids)
        self._ancestry = torch.zeros(batch, 1, 0, dtype=torch.bool, device=self._input_ids.device)

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        n_beams = tokens.shape[1]
        inherited = self._ancestry.gather(1, parents.unsqueeze(-1).expand(-1, -1, self._ancestry.shape[-1]))
        itself = torch.eye(n_beams, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        self._ancestry = torch.cat([inherited, itself], dim=-1)
        positions = (self._lengths + self._depth).unsqueeze(1).expand(-1, n_beams)
        return self._run(tokens, self._mask(), positions)

    def _mask(self) -> Tensor:
        """Return the additive mask [B, 1, K, T + S] that shows the prompt and the ancestors."""
        prompt = self._attention_mask.bool().unsqueeze(1).expand(-1, self._ancestry.shape[1], -1)
        visible = torch.cat([prompt, self._ancestry], dim=-1).unsqueeze(1)
        return additive_mask(visible, model_dtype(self._lm))

    def _rewind(self) -> None:
        self._cache.crop(-self._ancestry.shape[-1])
        self._no_beams()


class ExpandedForward(BeamForward):
    """Beams as rows of the batch, each with a copy of its user's cache."""

    _cache: Any
    _n_beams: int
    """Rows per user that ``_cache`` has."""

    def start(self) -> Tensor:
        # The model makes its own cache: the right kind for sliding or linear attention.
        output = self._call(
            self._input_ids, self._attention_mask, self._prompt_positions(), use_cache=True, **self._no_other_logits()
        )
        self._prompt_cache = output[cache_name()]
        self._rewind()
        return self._last(output)

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
        output = self._call(tokens.reshape(-1, 1), mask, positions, use_cache=True, **{cache_name(): self._cache})
        return self._last(output).unflatten(0, (batch, n_beams))

    def _rewind(self) -> None:
        self._cache = None
        self._n_beams = 1


class RecomputedForward(BeamForward):
    """Beams as rows of the batch, run from the first token of the prompt at every step, without any padding.

    Recurrent models let padding into their state despite the mask.
    """

    _beams: Tensor
    """[B, K, depth]: the tokens of every beam."""

    def start(self) -> Tensor:
        self._rewind()
        return self._last_states(self._input_ids, self._attention_mask)

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        batch, n_beams = tokens.shape
        inherited = self._beams.gather(1, parents.unsqueeze(-1).expand(-1, -1, self._depth))
        self._beams = torch.cat([inherited, tokens.unsqueeze(-1)], dim=-1)
        input_ids = torch.cat([self._input_ids.repeat_interleave(n_beams, 0), self._beams.flatten(0, 1)], dim=1)
        mask = extended_mask(self._attention_mask, n_beams, self._depth + 1)
        return self._last_states(input_ids, mask).unflatten(0, (batch, n_beams))

    def _last_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states [R, D] after left-padded rows [R, T]; rows of equal length are run together."""
        lengths = attention_mask.sum(dim=1)
        parts: list[Tensor] = []
        places: list[Tensor] = []
        for length in lengths.unique().tolist():
            for rows in (lengths == length).nonzero().squeeze(1).split(MAX_ROWS):
                ids = input_ids[rows, input_ids.shape[1] - length :]
                positions = torch.arange(length, device=ids.device).expand_as(ids)
                others = self._no_other_logits()
                parts.append(self._last(self._call(ids, torch.ones_like(ids), positions, use_cache=False, **others)))
                places.append(rows)
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _rewind(self) -> None:
        self._beams = self._input_ids.new_zeros(len(self._input_ids), 1, 0)


class PlainForward(RecomputedForward):
    """The whole model's own output: the truth against which the ways above are checked."""

    def __init__(self, lm: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(lm, *args, **kwargs)
        self._body, self._result, self.readout = lm, "logits", LogitsReadout()


FORWARDS: dict[Mode, type[BeamForward]] = {
    "fold": FoldedForward,
    "expand": ExpandedForward,
    "recompute": RecomputedForward,
}


def extended_mask(attention_mask: Tensor, n_beams: int, depth: int) -> Tensor:
    """Return the mask [B * K, T + depth] of prompts [B, T] repeated per beam and followed by ``depth`` tokens."""
    repeated = attention_mask.repeat_interleave(n_beams, dim=0)
    return torch.cat([repeated, repeated.new_ones(len(repeated), depth)], dim=1)
