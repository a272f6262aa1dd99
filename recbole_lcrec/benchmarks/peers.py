"""What a user would do otherwise: transformers' own generate, and the plain training recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def generated_items(
    lm: Any, input_ids: Tensor, attention_mask: Tensor, paths: Tensor, num_beams: int
) -> tuple[Tensor, Tensor]:
    """Return items and scores [B, num_beams] that transformers' generate finds under a trie constraint.

    Args:
        lm: A causal language model of transformers.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding.
        paths: Distinct paths of all items [n_items, L] in vocabulary ids.
        num_beams: Beams per user.
    """
    return GenerateSearch(lm, paths, num_beams)(input_ids, attention_mask)


class GenerateSearch:
    """``generate`` with a dictionary of prefixes, made once.

    Args:
        lm: A causal language model of transformers.
        paths: Distinct paths of all items [n_items, L] in vocabulary ids.
        num_beams: Beams per user.
    """

    def __init__(self, lm: Any, paths: Tensor, num_beams: int) -> None:
        self._lm, self._num_beams, self._levels = lm, num_beams, paths.shape[1]
        self._row_of = {tuple(path): row for row, path in enumerate(paths.tolist())}
        allowed: dict[tuple[int, ...], set[int]] = {}
        for path in self._row_of:
            for level in range(len(path)):
                allowed.setdefault(path[:level], set()).add(path[level])
        self._children = {prefix: sorted(tokens) for prefix, tokens in allowed.items()}

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return items and scores [B, num_beams] of left-padded prompts [B, T]."""
        length = input_ids.shape[1]
        output = self._lm.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            prefix_allowed_tokens_fn=lambda _, ids: self._children.get(tuple(ids[length:].tolist()), [0]),
            num_beams=self._num_beams,
            num_return_sequences=self._num_beams,
            max_new_tokens=self._levels,
            do_sample=False,
            length_penalty=0.0,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        items = torch.tensor([self._row_of[tuple(path)] for path in output.sequences[:, length:].tolist()])
        return items.view(-1, self._num_beams), output.sequences_scores.view(-1, self._num_beams)


def plain_loss(lm: Any, input_ids: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
    """Return the loss as transformers computes it from labels, logits at every position.

    Args:
        lm: A causal language model of transformers.
        input_ids: [B, T] samples, right-padded.
        weights: [B, T], above 0 on the tokens that carry loss.
        lengths: [B] tokens of each sample.
    """
    mask = (torch.arange(input_ids.shape[1], device=input_ids.device) < lengths.unsqueeze(1)).long()
    labels = input_ids.masked_fill(weights == 0, -100)
    loss: Tensor = lm(input_ids=input_ids, attention_mask=mask, labels=labels, use_cache=False).loss
    return loss
