"""Beams of T5: the encoder runs once per user, and the beams share its keys and values.

A user's beams are query tokens of one decoder sequence, as in `recbole_lcrec.decoding.forward`: cross-attention then
has one copy of keys and values per user, for any number of beams, and the decoder's cache is only appended to.
T5 has no position ids, though. The first layer of its decoder looks at where a token lies in the sequence, and adds a
learned bias for the distance to each key. Attention masks are added to the same scores, per head; so the mask here
hides what is not an ancestor of a beam and carries, for its ancestors, the difference between the bias of the true
distance and the bias that T5 will add. The model's own forward stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import cache_name
from recbole_lcrec.decoding.beam import VOCABULARY, score, search
from recbole_lcrec.decoding.forward import BeamForward
from recbole_lcrec.decoding.softmax import Softmax
from recbole_lcrec.decoding.trie import TokenTrie


class EncoderDecoderForward(BeamForward):
    """The logits that follow encoded inputs and, step by step, the beams grown from them.

    Args:
        lm: A T5 or mT5 of transformers (their decoders share one table of relative position biases across layers).
        input_ids: [B, T] inputs of the encoder, padded on either side.
        attention_mask: [B, T], 0 on padding and 1 elsewhere.
    """

    _cache: Any
    _ancestry: Tensor
    """[B, K, 1 + S]: which of the start token and the S beam tokens belong to each of the last step's K beams."""
    _depths: list[int]
    """The number of tokens before each token of the cache in its own beam."""

    def __init__(self, lm: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> None:
        self._lm: Any = lm
        self._input_ids = input_ids
        self._attention_mask = attention_mask.long()
        self._depth = 0

    def start(self) -> Tensor:
        """Run the encoder and return the logits [B, V] of the first token."""
        from transformers import DynamicCache, EncoderDecoderCache

        encoder = self._lm.get_encoder()
        self._encoded = encoder(input_ids=self._input_ids, attention_mask=self._attention_mask).last_hidden_state
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = self._input_ids.new_full((len(self._input_ids), 1), self._lm.config.decoder_start_token_id)
        logits = self._decode(start, None)
        self._no_beams()
        return logits[:, -1]

    def _no_beams(self) -> None:
        batch = len(self._input_ids)
        self._ancestry = torch.ones(batch, 1, 1, dtype=torch.bool, device=self._input_ids.device)
        self._depths = [0]

    def _advance(self, tokens: Tensor, parents: Tensor) -> Tensor:
        n_beams = tokens.shape[1]
        inherited = self._ancestry.gather(1, parents.unsqueeze(-1).expand(-1, -1, self._ancestry.shape[-1]))
        itself = torch.eye(n_beams, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        self._ancestry = torch.cat([inherited, itself], dim=-1)
        self._depths += [self._depth + 1] * n_beams
        return self._decode(tokens, self._mask(n_beams))

    def _decode(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Append tokens [B, K] to the decoder's cache and return the logits [B, K, V] after each."""
        output = self._lm(
            encoder_outputs=(self._encoded,),
            attention_mask=self._attention_mask,
            decoder_input_ids=tokens,
            decoder_attention_mask=mask,
            use_cache=True,
            **{cache_name(): self._cache},
        )
        logits: Tensor = output.logits
        return logits

    def _mask(self, n_beams: int) -> Tensor:
        """Return what to add to the attention scores of the new tokens, [B, heads, K, 1 + S]."""
        attention = self._lm.get_decoder().block[0].layer[0].SelfAttention
        n_keys = len(self._depths)
        added = attention.compute_bias(n_beams, n_keys, past_seen_tokens=n_keys - n_beams)
        last = self._depth + 1
        table = attention.compute_bias(1, last + 1, past_seen_tokens=last)  # a query at depth ``last``, keys up to it
        wanted = table[..., torch.tensor(self._depths, device=table.device)]
        lowest = torch.finfo(added.dtype).min
        return torch.where(self._ancestry.unsqueeze(1), wanted - added, lowest)

    def _rewind(self) -> None:
        self._cache.self_attention_cache.crop(1 - len(self._depths))
        self._no_beams()


@torch.no_grad()
def encoder_decoder_beam_search(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: TokenTrie,
    num_beams: int,
    softmax: Softmax = VOCABULARY,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the items that beam search finds for every input, best first.

    Order, items and scores are those of transformers' generate under the same trie. Dropout is the caller's business.

    Args:
        lm: A T5 or mT5 of transformers.
        input_ids: [B, T] inputs of the encoder.
        attention_mask: [B, T], 0 on padding.
        trie: The paths of all items, on the device of ``input_ids``.
        num_beams: Beams kept per user and level.
        softmax: What the softmax behind a code's probability runs over.
        excluded: [B, E] catalogue rows that each user must not get, -1 for padding; see `constrained_beam_search`.

    Returns:
        Catalogue rows [B, K] without duplicates, K = min(num_beams, n_items), and their
        log-probabilities [B, K].

    Raises:
        ValueError: on fewer than one beam, or inputs of another shape than their mask or without any token.
    """
    _check_inputs(input_ids, attention_mask)
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    return search(EncoderDecoderForward(lm, input_ids, attention_mask), trie, num_beams, softmax, excluded)


@torch.no_grad()
def encoder_decoder_score_paths(
    lm: nn.Module, input_ids: Tensor, attention_mask: Tensor, paths: Tensor, softmax: Softmax = VOCABULARY
) -> Tensor:
    """Return the exact log-likelihood of given candidate paths after every input.

    Args:
        lm: A T5 or mT5 of transformers.
        input_ids: [B, T] inputs of the encoder.
        attention_mask: [B, T], 0 on padding.
        paths: [B, C, L] int64 vocabulary ids of each user's candidates; they need not be in any trie.
        softmax: As for `encoder_decoder_beam_search`.

    Returns:
        Log-probabilities [B, C], in float32, or float64 if the model computes in it.

    Raises:
        ValueError: on wrong inputs as in `encoder_decoder_beam_search`, and on paths of another shape or dtype.
    """
    _check_inputs(input_ids, attention_mask)
    if paths.dim() != 3 or len(paths) != len(input_ids) or paths.numel() == 0 or paths.dtype != torch.int64:
        raise ValueError(
            f"paths must be int64 [B, C, L] with B = {len(input_ids)}, got {paths.dtype} {tuple(paths.shape)}"
        )
    return score(EncoderDecoderForward(lm, input_ids, attention_mask), paths, softmax)


def _check_inputs(input_ids: Tensor, attention_mask: Tensor) -> None:
    if input_ids.dim() != 2 or input_ids.numel() == 0 or attention_mask.shape != input_ids.shape:
        raise ValueError(
            "input_ids and attention_mask must be non-empty [B, T] of one shape, "
            f"got {tuple(input_ids.shape)} and {tuple(attention_mask.shape)}"
        )
    if not bool(attention_mask.bool().any(dim=1).all()):
        raise ValueError("every input needs a token: a row of attention_mask is all zeros")
