"""What LCRec says of paths with gradients: the losses of training samples, and the log-probabilities of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from recbole_lcrec.decoding.architecture import evaluating
from recbole_lcrec.decoding.readout import score_dtype
from recbole_lcrec.instruction.loader import beside_each_other, hung_behind
from recbole_lcrec.model.generative import Request
from recbole_lcrec.model.instruction_tuned import InstructionTuned
from recbole_lcrec.model.item_inputs import item_log_probs, item_products


class PathPolicy(InstructionTuned):
    """Mixin of LCRec; see the module."""

    evaluation: Any
    item_score_weight: float
    prompts: tuple[int, ...]
    softmax: Callable[[str], Any]
    rows_of: Callable[[torch.Tensor], torch.Tensor]
    generate: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    _item_vectors: Callable[[], torch.Tensor]
    _prompt: Callable[..., np.ndarray]
    _template: Callable[..., Any]
    _exclude_history: bool
    _item_loss_weight: float
    _item_trie: Any
    _level_of_token: torch.Tensor

    def token_losses(self, states: torch.Tensor, ids: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See the base class; with ``loss_normalization`` the codes of a path compete with other codes only.

        With ``item_loss_weight`` the loss of a path's first code includes that of its item among all items.
        """
        losses = self._code_losses(states, ids, where)
        if self._item_loss_weight:
            rows, places = where.nonzero(as_tuple=True)
            mine = (self._level_of_token[ids[rows, places + 1]] == 0).nonzero().squeeze(1)
            along = torch.arange(1, self.catalogue.paths.shape[1] + 1, device=ids.device)
            paths = ids[rows[mine].unsqueeze(1), places[mine].unsqueeze(1) + along]
            logits, targets = item_products(states[mine], self._item_vectors()), self.rows_of(paths)
            of_items = functional.cross_entropy(logits, targets, reduction="none")
            losses = losses.index_add(0, mine, self._item_loss_weight * of_items.to(losses.dtype))
        return losses

    def _code_losses(self, states: torch.Tensor, ids: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        normalization = self.evaluation.loss_normalization
        if normalization == "vocabulary":
            return super().token_losses(states, ids, where)
        softmax, readout = self.softmax(normalization), self._logits_at.readout
        rows, places = where.nonzero(as_tuple=True)
        targets = ids[rows, places + 1]
        levels = self._level_of_token[targets]
        losses = torch.zeros(len(targets), dtype=score_dtype(states.dtype), device=states.device)
        words = levels < 0
        losses[words] = functional.cross_entropy(
            readout.logits(states[words]).to(losses.dtype), targets[words], reduction="none"
        )
        for level in range(len(self.catalogue.index.level_sizes)):
            mine = (levels == level).nonzero().squeeze(1)
            if not len(mine):  # a batch of samples that are answered in words
                continue
            before = torch.arange(1 - level, 1, device=ids.device)  # a path's codes are adjacent
            prefixes = ids[rows[mine].unsqueeze(1), places[mine].unsqueeze(1) + before]
            losses[mine] = softmax.losses(readout, states[mine], targets[mine], prefixes)
        return losses

    def beams(self, histories: Sequence[np.ndarray], k: int) -> torch.Tensor:
        """Return the items at which the beams of an evaluation end, without dropout: catalogue rows int64 [B, K].

        They are what validation would find with ``k`` beams in its first wording, best first; with
        ``exclude_history`` none is from the history. K is ``k``, or the number of items; -1 where nothing is left.

        Args:
            histories: Catalogue rows, oldest first.
            k: Beams per history.
        """
        requests = [Request(history) for history in histories]
        if self._exclude_history:
            requests = [replace(one, excluded=one.history) for one in requests]
        with evaluating(self.lm):
            return self.generate(requests, self._item_trie, k, self.prompts[0])[0]

    def log_probs(self, histories: Sequence[np.ndarray], rows: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities of items after each history with their gradients, without dropout: [B, C].

        They are the scores that lists are ranked by: the sum over an item's codes, each among its competitors of
        ``loss_normalization``, and ``item_score_weight`` of the log-probability of the item as a whole. A weighted
        mean of two log-probabilities is one up to a constant per history, which cancels between items of a history.

        Prompts are written as for decoding and run by the training forward, each once with all paths attached to it;
        models that do not keep these apart run a prompt once per item.

        Args:
            histories: Catalogue rows, oldest first.
            rows: Catalogue rows int64 [B, C].
        """
        requests = [Request(history) for history in histories]
        prompts = [self._prompt(one, self._template(one, self.prompts[0])) for one in requests]
        lay = hung_behind if self._logits_at.keeps_apart else beside_each_other
        laid = lay(prompts, self.catalogue.paths[rows.cpu().numpy()], self.catalogue.builder.pad_id).to(self.device)
        with evaluating(self.lm):
            states = self._logits_at.states(laid.ids, laid.where, laid.lengths, laid.runs)
        of_codes = self._code_losses(states, laid.ids, laid.where).view(*rows.shape, -1)
        scores = -of_codes.sum(dim=-1)
        if not self.item_score_weight:
            return scores
        behind_prompts = states.view(*of_codes.shape, -1)[:, 0, 0]
        of_items = item_log_probs(behind_prompts, self._item_vectors()).gather(1, rows)
        return scores.lerp(of_items.to(scores.dtype), self.item_score_weight)
