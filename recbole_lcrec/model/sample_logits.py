"""Logits of training samples, computed only where a token carries loss, and shared parts only once.

A plain training step computes logits over the whole vocabulary at every position, padding included, and runs the
instruction that all samples begin with once per sample. None of that changes the loss. Each shortcut is compared with
a plain forward on a small probe before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.config import StageSettings
from recbole_lcrec.decoding.architecture import base_model, cache_name, evaluating, model_dtype
from recbole_lcrec.decoding.mode import attention_window
from recbole_lcrec.decoding.readout import HeadReadout, LogitsReadout, readout_of, split_model
from recbole_lcrec.model.item_inputs import positions_and_mask
from recbole_lcrec.model.last_block import LastBlock
from recbole_lcrec.utils.errors import UserError

logger = logging.getLogger(__name__)

MIN_SHARED = 8
"""Shorter common beginnings are not worth a forward of their own."""

States = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class SampleLogitsSettings(StageSettings):
    """Options of the training forward; each is explained in properties/model/LCRec.yaml."""

    lm_dropout: float
    share_prefix: bool
    packing: bool
    gradient_checkpointing: bool
    torch_compile: bool
    max_length: int


class SampleLogits:
    """A function that returns the logits [n_true, V] at given places of samples.

    Dropout of ``lm_dropout`` zeroes elements of the embeddings, and of the hidden states before the head, while the
    model is in training mode: around the model, so that its own forward stays as it is.

    Attributes:
        readout: Turns what ``states`` returns into logits and log-probabilities.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        settings: Options of the training forward.
        once: Whether every layer has to run exactly once per step: FSDP frees weights after a layer, and a shared
            beginning would run it twice. ``share_prefix`` has no effect then.

    Raises:
        UserError: For options that the model's architecture does not support.
    """

    def __init__(self, lm: nn.Module, settings: SampleLogitsSettings, *, once: bool = False) -> None:
        self._lm, self._settings = lm, settings
        self._split = split_model(lm)
        self._body: Any = self._split.body if self._split else None
        self.readout = (readout_of(self._split) if self._split else None) or LogitsReadout()
        if settings.gradient_checkpointing:
            _checkpoint_layers(lm)
        if self._split is None:
            logger.info("Logits of %s are not head(hidden): computed at all positions.", type(base_model(lm)).__name__)
        self._states: States = self._plain
        self._last: LastBlock | None = None
        if settings.packing:
            self._require(self._packed, "packing")
            self._states = self._packed
        elif settings.share_prefix and not once and not settings.gradient_checkpointing and self._agrees(self._shared):
            self._states = self._shared
        if not (once or settings.gradient_checkpointing or settings.torch_compile):
            last = LastBlock(lm)
            self._last = last if self._agrees(self._states, last) else None
            if self._last is None and self._split is not None:
                logger.info("The last block of %s is run at all positions.", type(base_model(lm)).__name__)
        if settings.torch_compile and self._split is not None:
            self._body = torch.compile(self._split.body, dynamic=True)

    def __call__(self, input_ids: Tensor, where: Tensor, lengths: Tensor, aside: Tensor | None = None) -> Tensor:
        """Return the logits [n_true, V] at the marked positions; arguments as for ``states``."""
        return self.readout.logits(self.states(input_ids, where, lengths, aside))

    def states(self, input_ids: Tensor, where: Tensor, lengths: Tensor, aside: Tensor | None = None) -> Tensor:
        """Return what ``readout`` turns into logits, [n_true, D], at the marked positions, in the order of ``where``.

        Args:
            input_ids: [B, T] samples, right-padded.
            where: bool [B, T], where logits are wanted.
            lengths: [B] tokens of each sample.
            aside: bool [B, T], tokens that only the rest of their own run sees, or int64 [B, T], the numbers of
                their runs (see ``positions_and_mask``); or None. The model must have passed ``require_aside``, or
                report that it ``keeps_apart``.
        """
        if self._split is None:
            logits: Tensor = self._lm(**self._inputs(input_ids, aside), use_cache=False).logits
            return logits[where]
        states = self._drop(self._states(input_ids, where, lengths, aside))
        return states if isinstance(self.readout, HeadReadout) else self._split.head(states)

    @cached_property
    def keeps_apart(self) -> bool:
        """Whether samples may have tokens aside: checked once, by numbers, in full precision."""
        with torch.autocast(base_model(self._lm).device.type, enabled=False):
            return not self._settings.packing and self.passes_over()

    def require_aside(self, option: str) -> None:
        """Check by numbers that the model passes over tokens that stand aside.

        Raises:
            UserError: Naming ``option``, if it does not: it ignores masks or positions, or packs samples.
        """
        if self._settings.packing:
            raise UserError(f"{option} does not go with packing. Leave packing out.")
        if not self.passes_over():
            name = type(base_model(self._lm)).__name__
            raise UserError(
                f"{option}: {name} cannot keep apart what lies side by side in one row (it takes no 4D mask or no "
                "positions, or attends to a window). Set history_loss_weight to 0, or attention to sdpa."
            )

    def _plain(self, input_ids: Tensor, where: Tensor, lengths: Tensor, aside: Tensor | None = None) -> Tensor:
        return self._run(self._inputs(input_ids, aside), where, use_cache=False)[where]

    def _shared(self, input_ids: Tensor, where: Tensor, lengths: Tensor, aside: Tensor | None = None) -> Tensor:
        """Run the tokens that all samples begin with once; the gradients of all samples meet in them."""
        from transformers import DynamicCache

        shared = common_prefix(input_ids, where if aside is None else where | aside)
        if len(input_ids) < 2 or shared < MIN_SHARED:
            return self._plain(input_ids, where, lengths, aside)
        cache: Any = DynamicCache()
        nowhere = torch.zeros_like(where[:1, :shared])
        self._run(self._inputs(input_ids[:1, :shared]), nowhere, use_cache=True, **{cache_name(): cache})
        for layer in cache.layers:
            layer.keys, layer.values = (part.expand(len(input_ids), -1, -1, -1) for part in (layer.keys, layer.values))
        rest = self._inputs(input_ids[:, shared:], None if aside is None else aside[:, shared:], shared)
        where = where[:, shared:]
        return self._run(rest, where, use_cache=True, **{cache_name(): cache})[where]

    def _packed(self, input_ids: Tensor, where: Tensor, lengths: Tensor, aside: Tensor | None = None) -> Tensor:
        """Run all samples as one row without padding; positions that start again keep the samples apart."""
        assert aside is None
        places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        real = places < lengths.unsqueeze(1)
        inputs = self._inputs(input_ids[real].unsqueeze(0)) | {"position_ids": places[real].unsqueeze(0)}
        where = where[real].unsqueeze(0)
        return self._run(inputs, where, use_cache=False)[where]

    def _run(self, inputs: dict[str, Tensor], where: Tensor, **others: Any) -> Tensor:
        """Return the states [B, T, D] of the body, of which only those at the marked places are valid."""
        last = self._last if self._last is not None and self._last.pays(where) else None
        with last.only_at(where) if last else nullcontext():
            states: Tensor = self._body(**inputs, **others).last_hidden_state
        return states

    def _inputs(self, input_ids: Tensor, aside: Tensor | None = None, cached: int = 0) -> dict[str, Tensor]:
        """Return the model's arguments for tokens [B, T] that follow ``cached`` ones, seen by all of them."""
        inputs = {"input_ids": input_ids}
        if self._settings.lm_dropout:
            inputs = {"inputs_embeds": self._drop(base_model(self._lm).get_input_embeddings()(input_ids))}
        if aside is not None:
            positions, mask = positions_and_mask(aside, model_dtype(self._lm))
            inputs |= {"position_ids": positions + cached, "attention_mask": functional.pad(mask, (cached, 0))}
        return inputs

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self._settings.lm_dropout, training=self._lm.training)

    def _require(self, states: States, option: str) -> None:
        if not self._agrees(states):
            name = type(base_model(self._lm)).__name__
            raise UserError(f"{option}: {name} mixes samples that lie in one row. Leave {option} out.")

    @torch.no_grad()
    def _agrees(self, states: States, last: LastBlock | None = None) -> bool:
        """Compare a way to the states with the plain one on three samples that share a beginning.

        Args:
            states: The way.
            last: What runs the last block during the comparison.
        """
        if self._split is None or self._attends_to_a_window():
            return False
        probe = self._probe(3)
        lengths = torch.tensor([16, 11, 13], device=probe.device)
        places = torch.arange(16, device=probe.device)
        where = (places >= lengths.unsqueeze(1) - 3) & (places < lengths.unsqueeze(1))
        with evaluating(self._lm):
            expected = self._plain(probe, where, lengths)
            self._last = last
            try:
                return _close(states(probe, where, lengths, None), expected)
            except Exception:  # what an architecture without this kind of cache raises cannot be listed
                return False
            finally:
                self._last = None

    @torch.no_grad()
    def passes_over(self) -> bool:
        """Return whether the model passes over tokens that stand aside.

        Samples with three tokens aside are compared with the same without them, and with nothing after them.
        """
        if self._settings.packing or self._attends_to_a_window():
            return False
        probe = self._probe(2)
        aside = torch.zeros_like(probe, dtype=torch.bool)
        aside[:, 12:15] = True
        where, lengths = torch.ones_like(aside), probe.new_tensor([16, 16])
        where[:, : MIN_SHARED + 1] = False
        kept, until = ~aside & where, aside | (where & (torch.arange(16, device=probe.device) < 12))
        with evaluating(self._lm):
            try:
                logits = self(probe, where, lengths, aside)
            except Exception:  # what an architecture without such arguments raises cannot be listed
                return False
            without = torch.cat([probe[:, :12], probe[:, 15:]], dim=1)
            expected = self(without, torch.cat([where[:, :12], where[:, 15:]], dim=1), lengths - 3)
            behind = self(probe[:, :15], where[:, :15], lengths - 1)
            return _close(logits[kept[where]], expected) and _close(logits[until[where]], behind)

    def _attends_to_a_window(self) -> bool:
        window = attention_window(self._lm)
        return window is not None and window < self._settings.max_length

    def _probe(self, n_samples: int) -> Tensor:
        """Return samples [n_samples, 16] with a common beginning."""
        embeddings = base_model(self._lm).get_input_embeddings().weight
        numbers = torch.arange(n_samples * 16, device=embeddings.device).view(n_samples, 16)
        probe = (numbers * 7) % embeddings.shape[0]
        probe[:, : MIN_SHARED + 2] = probe[0, : MIN_SHARED + 2].clone()
        return probe


def _close(some: Tensor, others: Tensor) -> bool:
    return torch.allclose(some, others, atol=1e-4, rtol=1e-3)


def common_prefix(input_ids: Tensor, where: Tensor) -> int:
    """Return how many leading tokens all samples share, before the first position that ``where`` marks.

    Args:
        input_ids: [B, T].
        where: bool [B, T]; what stands aside is marked, too.
    """
    differs = (input_ids != input_ids[:1]).any(dim=0) | where.any(dim=0)
    differs[-1] = True  # something must be left to run
    return int(differs.int().argmax())


def _checkpoint_layers(lm: nn.Module) -> None:
    """Keep no activations inside the layers: they are recomputed in the backward pass."""
    inner = base_model(lm)
    if not inner.supports_gradient_checkpointing:
        raise UserError(f"gradient_checkpointing: {type(inner).__name__} does not support it. Leave it out.")
    if hasattr(inner, "activation_checkpointing_enable"):  # its name in later transformers
        inner.activation_checkpointing_enable({"use_reentrant": False})
    else:
        inner.gradient_checkpointing_enable({"use_reentrant": False})
    if hasattr(inner, "enable_input_require_grads"):
        inner.enable_input_require_grads()  # under LoRA nothing before the first adapter requires gradients
