"""Scores of continuations of different lengths: many candidates behind one prompt.

`recbole_lcrec.decoding.beam` grows beams token by token; here the continuations are known beforehand, so each runs in
one forward. The keys and values of a prompt are computed once and copied to its continuations, which are padded at the
right; where a model does not bear that (see `Continuations`), prompt and continuation run together without a cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import accepted_arguments, base_model
from recbole_lcrec.decoding.batching import prompts_at_once, run_halving, similar_lengths
from recbole_lcrec.decoding.mode import attention_window, relative_difference
from recbole_lcrec.decoding.readout import LogitsReadout, Readout, readout_of, split_model

MAX_LOGITS = 2**24
"""Logits that reading whole continuations may hold at once (64 MB in float32)."""

TOLERANCE = 1e-4
"""Largest difference, relative to the spread of the logits, between the two ways."""

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
    """Return a reader of the summed log-probabilities of each continuation's tokens but the first.

    Args:
        exponent: The sum is divided by the number of these tokens to this power: 0 leaves it, 1 takes the mean.
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

    On the first use with a device and a precision, a random batch is run with and without a cache; if the states
    differ, or the model attends to a window, nothing is cached from then on.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
    """

    def __init__(self, lm: nn.Module) -> None:
        self._lm = lm
        self._accepted = accepted_arguments(lm)
        split = split_model(lm)
        readout = readout_of(split) if split else None
        self._body: Any = split.body if split and readout else lm
        self.of_prompts: dict[str, Any] = {} if readout else {"logits_to_keep": 1}
        """Arguments that keep a prompt's forward from computing what nobody reads."""
        self._result = "last_hidden_state" if readout else "logits"
        self._readout = readout or LogitsReadout()
        self._cached: dict[Any, bool] = {}

    @torch.no_grad()
    def score(
        self, prompts: Sequence[np.ndarray], continuations: Sequence[Sequence[np.ndarray]], read: Read
    ) -> list[Tensor]:
        """Return the scores of each prompt's continuations.

        Args:
            prompts: Token ids of each prompt [length], at least one token.
            continuations: Per prompt, the token ids of its continuations [length], at least one token each.
            read: What a score is.

        Returns:
            Per prompt, the scores [number of its continuations], float32.
        """
        results = [torch.zeros(len(some), dtype=torch.float32) for some in continuations]
        asked = [number for number, some in enumerate(continuations) if len(some)]
        lengths = [len(prompts[number]) for number in asked]
        if not asked:
            return results
        longest = max(lengths) + max(len(ids) for some in continuations for ids in some)
        limit = prompts_at_once(self._lm, longest, 0)

        def run(places: np.ndarray) -> None:
            self._run([asked[place] for place in places], prompts, continuations, read, limit, results)

        for places in similar_lengths(lengths, limit):
            run_halving(run, places)
        return results

    def _run(
        self,
        numbers: Sequence[int],
        prompts: Sequence[np.ndarray],
        continuations: Sequence[Sequence[np.ndarray]],
        read: Read,
        limit: int,
        results: list[Tensor],
    ) -> None:
        """Score the continuations of some prompts, those of similar length together."""
        rows = [(place, n) for place, number in enumerate(numbers) for n in range(len(continuations[number]))]
        forward = (_CachedRows if self._uses_cache() else _PlainRows)(self, [prompts[number] for number in numbers])
        sizes = [len(continuations[numbers[place]][n]) for place, n in rows]

        def run(some: np.ndarray) -> None:
            chosen = [rows[row] for row in some]
            ids, lengths = self._right_pad([continuations[numbers[place]][n] for place, n in chosen])
            states = forward.states([place for place, _ in chosen], ids, lengths)
            for (place, n), score in zip(chosen, read(self._readout, states, ids, lengths).tolist(), strict=True):
                results[numbers[place]][n] = score

        for some in similar_lengths(sizes, limit):
            run_halving(run, some)

    def call(self, input_ids: Tensor, **others: Any) -> Any:
        """Call the model's body with those of the optional arguments that it knows."""
        return self._body(
            input_ids=input_ids, **{name: value for name, value in others.items() if name in self._accepted}
        )

    def states_of(self, output: Any) -> Tensor:
        """Return the states of a body's output."""
        states: Tensor = getattr(output, self._result)
        return states

    def _right_pad(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return (ids int64 [R, S], lengths int64 [R]) on the model's device; the padding is token 0."""
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.zeros((len(rows), lengths.max()), np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = base_model(self._lm).get_input_embeddings().weight.device
        return device

    def _uses_cache(self) -> bool:
        kind = self.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        key = (kind, precision)
        if key not in self._cached:
            self._cached[key] = attention_window(self._lm) is None and self._cache_is_right()
        return self._cached[key]

    def _cache_is_right(self) -> bool:
        """Compare cached rows with plain ones on random tokens, in evaluation mode."""
        rng = np.random.default_rng(0)
        vocabulary = base_model(self._lm).get_input_embeddings().weight.shape[0]
        prompts = [rng.integers(1, vocabulary, size) for size in (5, 8)]
        ids, lengths = self._right_pad([rng.integers(1, vocabulary, size) for size in (3, 1, 4)])
        training = self._lm.training
        self._lm.eval()
        try:
            cached = _CachedRows(self, prompts)
            cached.states([1, 0, 0], ids, lengths)  # which must leave the prompts' cache as it is
            found = [way.states([0, 1, 1], ids, lengths) for way in (cached, _PlainRows(self, prompts))]
        except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
            return False  # what an architecture without a usable cache raises cannot be listed
        finally:
            self._lm.train(training)
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        ours, truth = (states[real].float() for states in found)
        tolerance = max(TOLERANCE, 8 * torch.finfo(found[1].dtype).eps)
        return relative_difference(ours, truth) <= tolerance


class _CachedRows:
    """Continuations behind prompts whose keys and values are kept."""

    def __init__(self, owner: Continuations, prompts: Sequence[np.ndarray]) -> None:
        self._owner = owner
        width = max(map(len, prompts))
        ids, mask = np.zeros((len(prompts), width), np.int64), np.zeros((len(prompts), width), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        self._mask = torch.from_numpy(mask).to(owner.device)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._cache = owner.call(
            torch.from_numpy(ids).to(owner.device),
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            **owner.of_prompts,
        ).past_key_values

    def states(self, places: Sequence[int], ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the states [R, S, D] after each token of continuations ``ids`` [R, S] of prompts ``places`` [R]."""
        rows = torch.tensor(places, device=ids.device)
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        cache.reorder_cache(rows)  # selects rows into new tensors; those of the prompts stay
        prompt_mask = self._mask[rows]
        steps = torch.arange(ids.shape[1], device=ids.device)
        mask = torch.cat([prompt_mask, (steps < lengths[:, None]).long()], dim=1)
        positions = prompt_mask.sum(dim=1, keepdim=True) + steps
        output = self._owner.call(
            ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return self._owner.states_of(output)


class _PlainRows:
    """Continuations and their prompts in one sequence each, without a cache."""

    def __init__(self, owner: Continuations, prompts: Sequence[np.ndarray]) -> None:
        self._owner = owner
        self._prompts = [torch.from_numpy(np.asarray(prompt, np.int64)).to(owner.device) for prompt in prompts]

    def states(self, places: Sequence[int], ids: Tensor, lengths: Tensor) -> Tensor:
        """See ``_CachedRows.states``."""
        rows = [torch.cat([self._prompts[place], row]) for place, row in zip(places, ids, strict=True)]
        width = max(map(len, rows))
        whole = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
        states = self._owner.states_of(self._owner.call(whole, use_cache=False))
        starts = torch.tensor([len(self._prompts[place]) for place in places], device=ids.device)
        where = starts[:, None] + torch.arange(ids.shape[1], device=ids.device)
        return states.gather(1, where[..., None].expand(-1, -1, states.shape[-1]))
