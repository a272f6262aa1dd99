"""Scores of continuations of different lengths: many candidates behind one prompt.

`recbole_lcrec.decoding.beam` grows beams token by token; here the continuations are known beforehand, so each runs in
one forward, right-padded. As there, what a model supports is found out numerically:

- ``fold``: a prompt's keys and values are computed once and copied to rows of several continuations each, side by side
  under a 4D mask: long rows cost attention, many rows cost copies.
- ``expand``: the same with one continuation per row, which needs no mask of ours.
- ``recompute``: prompt and continuation run together without a cache. Slow, but it needs nothing except a forward.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.decoding.architecture import (
    accepted_arguments,
    additive_mask,
    base_model,
    cache_name,
    evaluating,
    model_dtype,
)
from recbole_lcrec.decoding.batching import prompts_at_once, run_halving, similar_lengths
from recbole_lcrec.decoding.forward import Mode
from recbole_lcrec.decoding.mode import attention_window, relative_difference
from recbole_lcrec.decoding.readout import LogitsReadout, Readout, readout_of, split_model

logger = logging.getLogger(__name__)

CPU_TOKENS = 2048
"""Tokens in one forward on a CPU, whose caches do not hold the states of more."""

MAX_LOGITS = 2**24
"""Most logits held at once while whole continuations are read (64 MB in float32)."""

TOLERANCE = 1e-4
"""Largest difference from a plain forward, relative to the spread of the logits."""

Read = Callable[[Readout, Tensor, Tensor, Tensor], Tensor]
"""(readout, states [R, S, D] after each token, tokens int64 [R, S], lengths int64 [R]) -> scores [R]."""


def log_odds(first: int, second: int) -> Read:
    """Return a reader of log p(first) - log p(second) after the last token of each continuation."""

    def read(readout: Readout, states: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        last = states[torch.arange(len(states), device=states.device), lengths - 1]
        both = torch.tensor([first, second], device=states.device)
        log_probs = readout.log_probs(last, both, among=both)
        return log_probs[:, 0] - log_probs[:, 1]

    return read


def log_likelihood(exponent: float = 0.0) -> Read:
    """Return a reader of the summed log-probabilities of each continuation's tokens except the first.

    Args:
        exponent: The sum is divided by the number of these tokens to this power: 0 keeps the sum, 1 gives the mean.
    """

    def read(readout: Readout, states: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        targets, counts = tokens[:, 1:], lengths - 1
        real = torch.arange(targets.shape[1], device=targets.device) < counts[:, None]
        scores = torch.zeros(targets.shape, dtype=torch.float32, device=targets.device)
        scores[real] = _of_targets(readout, states[:, :-1][real], targets[real]).float()
        return scores.sum(dim=1) / counts**exponent

    return read


def _of_targets(readout: Readout, states: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability [N] of each state's own target, states [N, D]."""
    width = readout.logits(states[:1]).shape[-1]
    parts = []
    step = max(MAX_LOGITS // width, 1)
    for some, wanted in zip(states.split(step), targets.split(step), strict=True):
        logits = readout.logits(some)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        parts.append(logits.gather(-1, wanted[:, None]).squeeze(-1) - logits.logsumexp(dim=-1))
    return torch.cat(parts)


class Continuations:
    """Runs continuations of prompts through a causal language model.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
    """

    def __init__(self, lm: nn.Module) -> None:
        self.lm = lm
        self._accepted = accepted_arguments(lm)
        split = split_model(lm)
        readout = readout_of(split) if split else None
        self._body: Any = split.body if split and readout else lm
        self.of_prompts: dict[str, Any] = {} if readout else {"logits_to_keep": 1}
        """Arguments that keep a prompt's forward from computing logits that are never read."""
        self._result = "last_hidden_state" if readout else "logits"
        self._readout = readout or LogitsReadout()
        self._modes: dict[Any, Mode] = {}

    @torch.no_grad()
    def score(
        self,
        prompts: Sequence[np.ndarray],
        continuations: Sequence[Sequence[np.ndarray]],
        read: Read,
        mode: Mode | None = None,
    ) -> list[Tensor]:
        """Return the scores of each prompt's continuations.

        Args:
            prompts: Token ids of each prompt [length], at least one token.
            continuations: Per prompt, the token ids of its continuations [length], at least one token each.
            read: Computes the scores.
            mode: How they are run; None takes the fastest way that is correct for the model.

        Returns:
            Per prompt, the scores [number of its continuations], float32.
        """
        results = [torch.zeros(len(some), dtype=torch.float32) for some in continuations]
        asked = [number for number, some in enumerate(continuations) if len(some)]
        if not asked:
            return results
        mode = mode or self._mode()
        groups = {number: _groups(len(prompts[number]), continuations[number], mode) for number in asked}
        widest = max(width for some in groups.values() for _, width in some)
        longest = max(len(prompts[number]) for number in asked)
        limit = prompts_at_once(self.lm, longest + widest, 0)

        def at_once(width: int) -> int:
            return max(min(limit, CPU_TOKENS // width), 1) if self.device.type == "cpu" else limit

        def run(places: np.ndarray) -> None:
            numbers = [asked[place] for place in places]
            forward = WAYS[mode](self, [prompts[number] for number in numbers])
            rows = [(place, *group) for place, number in enumerate(numbers) for group in groups[number]]

            def run_rows(some: np.ndarray) -> None:
                members = [(numbers[rows[row][0]], rows[row][1]) for row in some]
                ids, lengths = self._padded([[continuations[n][m] for m in group] for n, group in members])
                states = forward.states([rows[row][0] for row in some], ids)
                real = lengths.flatten() > 0
                scores = read(self._readout, states[real], ids.flatten(0, 1)[real], lengths.flatten()[real])
                where = [(n, m) for n, group in members for m in group]
                for (n, m), score in zip(where, scores.tolist(), strict=True):
                    results[n][m] = score

            for some in similar_lengths([width for *_, width in rows], at_once(widest)):
                run_halving(run_rows, some)

        for places in similar_lengths([len(prompts[number]) for number in asked], at_once(longest)):
            run_halving(run, places)
        return results

    def call(self, input_ids: Tensor, **others: Any) -> Any:
        """Call the model's body with the optional arguments that it accepts."""
        return self._body(
            input_ids=input_ids, **{name: value for name, value in others.items() if name in self._accepted}
        )

    def states_of(self, output: Any) -> Tensor:
        """Return the states of a body's output."""
        states: Tensor = output[self._result]
        return states

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = base_model(self.lm).get_input_embeddings().weight.device
        return device

    def _padded(self, rows: Sequence[Sequence[np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Return (ids int64 [R, G, S], lengths int64 [R, G]) on the model's device; padding is token 0, length 0."""
        lengths = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for row, group in enumerate(rows):
            lengths[row, : len(group)] = [len(ids) for ids in group]
        padded = np.zeros((*lengths.shape, lengths.max()), np.int64)
        for row, group in enumerate(rows):
            for place, ids in enumerate(group):
                padded[row, place, : len(ids)] = ids
        return torch.from_numpy(padded).to(self.device), torch.from_numpy(lengths).to(self.device)

    def _mode(self) -> Mode:
        """Return the fastest correct way, determined once per device and precision."""
        kind = self.device.type
        key = (kind, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
        if key not in self._modes:
            ways: tuple[Mode, ...] = () if attention_window(self.lm) else ("fold", "expand")
            self._modes[key] = next((way for way in ways if self._is_right(way)), "recompute")
            if self._modes[key] != "fold":
                name = type(base_model(self.lm)).__name__
                logger.info("Candidates of %s are run in mode '%s'.", name, self._modes[key])
        return self._modes[key]

    def _is_right(self, mode: Mode) -> bool:
        """Compare a way with plain forwards on random tokens, in evaluation mode."""
        rng = np.random.default_rng(0)
        vocabulary = base_model(self.lm).get_input_embeddings().weight.shape[0]
        prompts = [rng.integers(1, vocabulary, size) for size in (5, 8)]
        size = 2 if mode == "fold" else 1
        ids = torch.from_numpy(rng.integers(1, vocabulary, (3, size, 4))).to(self.device)
        try:
            with evaluating(self.lm):
                truth = WAYS["recompute"](self, prompts).states([0, 1, 1], ids)
                way = WAYS[mode](self, prompts)
                way.states([1, 0, 0], ids)  # this must leave the prompts' cache unchanged
                found = way.states([0, 1, 1], ids)
        except Exception:  # the errors of architectures without a usable cache or mask cannot be listed
            return False
        tolerance = max(TOLERANCE, 8 * torch.finfo(truth.dtype).eps)
        return relative_difference(found.flatten(0, 1).float(), truth.flatten(0, 1).float()) <= tolerance


def _groups(prompt: int, continuations: Sequence[np.ndarray], mode: Mode) -> list[tuple[np.ndarray, int]]:
    """Return groups of continuations that share a row, and the rows' widths: with "fold" about the prompt's length.

    Args:
        prompt: Tokens of the prompt.
        continuations: Their token ids.
        mode: How they are run.
    """
    lengths = np.array([len(ids) for ids in continuations], np.int64)
    size = max(prompt // int(lengths.max()), 1) if mode == "fold" else 1
    return [(group, len(group) * int(lengths[group].max())) for group in similar_lengths(lengths.tolist(), size)]


class _CachedRows:
    """Continuations after prompts whose keys and values are kept."""

    def __init__(self, owner: Continuations, prompts: Sequence[np.ndarray]) -> None:
        self._owner = owner
        ids, self._mask = (part.to(owner.device) for part in left_padded(prompts))
        output = owner.call(
            ids,
            attention_mask=self._mask,
            position_ids=(self._mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            **owner.of_prompts,
        )
        self._cache = output[cache_name()]

    def states(self, places: Sequence[int], ids: Tensor) -> Tensor:
        """Return the states after each token of each continuation.

        Args:
            places: Numbers of the rows' prompts [R].
            ids: int64 [R, G, S]; G continuations per row.

        Returns:
            [R * G, S, D].
        """
        n_rows, size, width = ids.shape
        rows = torch.tensor(places, device=ids.device)
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        cache.reorder_cache(rows)  # selects rows into new tensors; the prompts' own stay as they are
        prompt_mask = self._mask[rows]
        positions = prompt_mask.sum(dim=1, keepdim=True) + torch.arange(width, device=ids.device).repeat(size)
        mask = self._joint_mask(prompt_mask, size, width)
        flat = ids.flatten(1)
        output = self._owner.call(
            flat, attention_mask=mask, position_ids=positions, use_cache=True, **{cache_name(): cache}
        )
        return self._owner.states_of(output).reshape(n_rows * size, width, -1)

    def _joint_mask(self, prompt_mask: Tensor, size: int, width: int) -> Tensor:
        return torch.cat([prompt_mask, prompt_mask.new_ones(len(prompt_mask), width)], dim=1)


class _FoldedRows(_CachedRows):
    """Several continuations in a row; each sees the prompt and itself."""

    def _joint_mask(self, prompt_mask: Tensor, size: int, width: int) -> Tensor:
        """Return the additive mask [R, 1, G * S, T + G * S]."""
        causal = torch.ones(width, width, dtype=torch.bool, device=prompt_mask.device).tril()
        own = torch.block_diag(*[causal] * size).bool().expand(len(prompt_mask), -1, -1)
        seen = torch.cat([prompt_mask.bool()[:, None].expand(-1, size * width, -1), own], dim=2)[:, None]
        return additive_mask(seen, model_dtype(self._owner.lm))


class _PlainRows:
    """Continuations and their prompts in one sequence each, without a cache."""

    def __init__(self, owner: Continuations, prompts: Sequence[np.ndarray]) -> None:
        self._owner = owner
        self._prompts = [torch.from_numpy(np.asarray(prompt, np.int64)).to(owner.device) for prompt in prompts]

    def states(self, places: Sequence[int], ids: Tensor) -> Tensor:
        """See ``_CachedRows.states``."""
        pairs = [(self._prompts[place], row) for place, group in zip(places, ids, strict=True) for row in group]
        rows = [torch.cat(pair) for pair in pairs]
        width = max(map(len, rows))
        whole = torch.stack([functional.pad(row, (0, width - len(row))) for row in rows])
        states = self._owner.states_of(self._owner.call(whole, use_cache=False))
        starts = torch.tensor([len(prompt) for prompt, _ in pairs], device=ids.device)
        where = starts[:, None] + torch.arange(ids.shape[2], device=ids.device)
        return states.gather(1, where[..., None].expand(-1, -1, states.shape[-1]))


WAYS: dict[Mode, Any] = {"fold": _FoldedRows, "expand": _CachedRows, "recompute": _PlainRows}


def left_padded(prompts: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return (ids, mask) int64 [B, T] of prompts padded at the left with token 0."""
    width = max(map(len, prompts))
    ids, mask = np.zeros((len(prompts), width), np.int64), np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
