"""Beam search over the trie of item paths, and exact scores of given paths.

Both give the sum of the log-probabilities of a path's tokens under the softmax over the full vocabulary: what
transformers' generate accumulates before it masks the tokens that the trie forbids (DESIGN.md, step 8). Only the
trie's children compete, so every beam is an item at any time.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.forward import FORWARDS, BeamForward, Mode
from recbole_lcrec.decoding.mode import remembered_mode
from recbole_lcrec.decoding.trie import TokenTrie

ModeOption = Literal["auto", "fold", "expand", "recompute"]

MAX_CHUNK = 128
"""Candidates per user that `score_paths` runs side by side; folded, each one's attention row spans all of them."""

MAX_LOGITS = 2**26
"""Logits that one step of `score_paths` may hold (256 MB in float32)."""


@torch.no_grad()
def constrained_beam_search(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: TokenTrie,
    num_beams: int,
    mode: ModeOption = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the items that beam search finds for every prompt, best first.

    Order, items and scores are those of transformers' generate under the same trie. Dropout is the caller's business:
    put the model into evaluation mode.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding.
        trie: The paths of all items, on the device of ``input_ids``.
        num_beams: Beams kept per user and level.
        mode: How beams are run, see `recbole_lcrec.decoding.forward`; "auto" asks `choose_mode` once per model.

    Returns:
        Rows of the trie's ``item_token_ids`` [B, K] without duplicates, K = min(num_beams, n_items), and their
        log-probabilities [B, K] in float32, or float64 if the model computes in it.

    Raises:
        ValueError: on inputs that are not left-padded [B, T], fewer than one beam, an unknown mode, a trie on another
            device or with tokens that the model does not have.
    """
    _check_prompts(input_ids, attention_mask)
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    if trie.device != input_ids.device:
        raise ValueError(f"the trie is on {trie.device}, the prompts on {input_ids.device}: use trie.to(device)")
    forward = _open(lm, input_ids, attention_mask, mode, extra_tokens=sum(widths(trie, num_beams)[:-1]))
    return search(forward, trie, num_beams)


def widths(trie: TokenTrie, num_beams: int) -> list[int]:
    """Return how many beams a user has at each level.

    With min(num_beams, level size) beams per level every user has the same number of beams, and always enough
    candidates. By induction: if all nodes of a level were kept, all nodes of the next are candidates. If only
    num_beams of them were, each has a child at least, which makes num_beams candidates, and the next level, being no
    smaller, gets num_beams too.
    """
    return [min(num_beams, size) for size in trie.level_sizes]


def search(forward: BeamForward, trie: TokenTrie, num_beams: int) -> tuple[Tensor, Tensor]:
    """Grow the beams of ``forward`` to items; see `constrained_beam_search` for what is returned.

    Args:
        forward: Prompts (or encoded inputs) of B users, not yet started.
        trie: The paths of all items, on the same device.
        num_beams: Beams kept per user and level.
    """
    logits = forward.start().unsqueeze(1)
    _check_tokens(trie.max_token, logits)
    nodes = torch.zeros(len(logits), 1, dtype=torch.int64, device=logits.device)
    scores = torch.zeros(nodes.shape, dtype=_score_dtype(logits), device=logits.device)
    for depth, width in enumerate(widths(trie, num_beams)):
        nodes, scores, tokens, parents = _grow(trie, depth, nodes, scores, logits, width)
        if depth + 1 < trie.n_levels:
            logits = forward.advance(tokens, parents)
    return trie.rows(nodes), scores


def _grow(
    trie: TokenTrie, depth: int, nodes: Tensor, scores: Tensor, logits: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Extend beams by one token and keep the best ``width``.

    Args:
        trie: The trie.
        depth: Depth of ``nodes``.
        nodes: [B, K] nodes that the beams stand on.
        scores: [B, K] their log-probabilities.
        logits: [B, K, V] after each beam.
        width: Beams to keep, at most the number of children of every user's nodes.

    Returns:
        Nodes, scores, tokens and parents (index of the beam that was extended) of the new beams, each [B, width].
    """
    children = trie.children(depth, nodes)
    totals = scores.unsqueeze(-1) + token_log_probs(logits, children.tokens)
    # A real child must win against padding even if the model gives it a probability of 0.
    totals = totals.clamp(min=torch.finfo(totals.dtype).min).masked_fill(~children.valid, -torch.inf)
    scores, picked = totals.flatten(1).topk(width)
    parents = picked.div(children.nodes.shape[-1], rounding_mode="floor")
    nodes, tokens = (values.flatten(1).gather(1, picked) for values in (children.nodes, children.tokens))
    return nodes, scores, tokens, parents


@torch.no_grad()
def score_paths(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    paths: Tensor,
    mode: ModeOption = "auto",
) -> Tensor:
    """Return the exact log-likelihood of given candidate paths after every prompt.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding.
        paths: [B, C, L] int64 vocabulary ids of each user's candidates; they need not be in any trie.
        mode: As for `constrained_beam_search`.

    Returns:
        Log-probabilities [B, C] under the full vocabulary, in float32, or float64 if the model computes in it.

    Raises:
        ValueError: on prompts as in `constrained_beam_search`, and on paths of another shape, dtype or vocabulary.
    """
    _check_prompts(input_ids, attention_mask)
    if paths.dim() != 3 or len(paths) != len(input_ids) or paths.numel() == 0 or paths.dtype != torch.int64:
        raise ValueError(
            f"paths must be int64 [B, C, L] with B = {len(input_ids)}, got {paths.dtype} {tuple(paths.shape)}"
        )
    chunk = min(paths.shape[1], MAX_CHUNK)
    forward = _open(lm, input_ids, attention_mask, mode, extra_tokens=chunk * (paths.shape[2] - 1))
    logits = forward.start()
    _check_tokens(int(paths.max()), logits)
    chunk = max(1, min(chunk, MAX_LOGITS // logits.numel()))
    return torch.cat([_score_chunk(forward, logits, candidates) for candidates in paths.split(chunk, dim=1)], dim=1)


def _score_chunk(forward: BeamForward, prompt_logits: Tensor, paths: Tensor) -> Tensor:
    """Return the log-probabilities [B, C] of ``paths`` [B, C, L]; ``prompt_logits`` [B, V] follow the prompts."""
    n_candidates, n_levels = paths.shape[1:]
    scores = token_log_probs(prompt_logits, paths[:, :, 0])
    # Every candidate is a beam that starts at the prompt and from then on continues itself.
    parents = torch.zeros_like(paths[:, :, 0])
    for level in range(1, n_levels):
        logits = forward.advance(paths[:, :, level - 1], parents)
        scores = scores + token_log_probs(logits, paths[:, :, level].unsqueeze(-1)).squeeze(-1)
        parents = torch.arange(n_candidates, device=paths.device).expand_as(parents)
    if n_levels > 1:
        forward.rewind()
    return scores


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log-softmax of ``logits`` [..., V] at ``tokens`` [..., C], without a log-softmax of all V."""
    dtype = _score_dtype(logits)
    return logits.gather(-1, tokens).to(dtype) - logits.to(dtype).logsumexp(dim=-1, keepdim=True)


def _score_dtype(logits: Tensor) -> torch.dtype:
    """float32 at least: 16-bit log-probabilities of a few hundred codes would be full of ties."""
    return torch.promote_types(logits.dtype, torch.float32)


def _open(
    lm: nn.Module, input_ids: Tensor, attention_mask: Tensor, mode: ModeOption, extra_tokens: int
) -> BeamForward:
    """Return the chosen way of running beams; ``extra_tokens`` are those that all beams of a user append."""
    if mode not in get_args(ModeOption):
        raise ValueError(f"mode must be one of {', '.join(get_args(ModeOption))}, got {mode!r}")
    resolved: Mode = remembered_mode(lm, input_ids.shape[1] + extra_tokens) if mode == "auto" else mode
    return FORWARDS[resolved](lm, input_ids, attention_mask)


def _check_prompts(input_ids: Tensor, attention_mask: Tensor) -> None:
    if input_ids.dim() != 2 or input_ids.numel() == 0 or attention_mask.shape != input_ids.shape:
        raise ValueError(
            "input_ids and attention_mask must be non-empty [B, T] of one shape, "
            f"got {tuple(input_ids.shape)} and {tuple(attention_mask.shape)}"
        )
    real = attention_mask.bool()
    if not bool(real[:, -1].all()) or bool((real[:, :-1] & ~real[:, 1:]).any()):
        raise ValueError("prompts must be padded on the left: attention_mask must be zeros, then ones, in every row")


def _check_tokens(max_token: int, logits: Tensor) -> None:
    if max_token >= logits.shape[-1]:
        raise ValueError(f"a path has token id {max_token}, but the model's vocabulary has {logits.shape[-1]} tokens")
