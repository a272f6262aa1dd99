"""Beam search over the trie of item paths, and exact scores of given paths.

Both give the sum of the log-probabilities of a path's tokens, by default under the softmax over the full vocabulary:
what transformers' generate accumulates before it masks the tokens that the trie forbids (DESIGN.md, step 8). Only the
trie's children compete, so every beam leads to an item at any time. With `ItemScores`, the score is the weighted mean
of that sum and the log-probability of the item as a whole.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.decoding.exclusion import ExcludedItems, without_dead_beams
from recbole_lcrec.decoding.forward import FORWARDS, BeamForward, Mode
from recbole_lcrec.decoding.item_scores import ItemScores, NodeScores
from recbole_lcrec.decoding.mode import remembered_mode
from recbole_lcrec.decoding.prefix import SharedPrefix
from recbole_lcrec.decoding.readout import score_dtype
from recbole_lcrec.decoding.softmax import Softmax
from recbole_lcrec.decoding.trie import TokenTrie

ModeOption = Literal["auto", "fold", "expand", "recompute"]

MAX_CHUNK = 128
"""Candidates per user that `score_paths` runs side by side; folded, each one's attention row spans all of them."""

MAX_LOG_PROBS = 2**26
"""Most log-probabilities that one step of `score_paths` holds (256 MB in float32)."""

VOCABULARY = Softmax()
"""The paper's softmax."""


class PathStep(NamedTuple):
    """What may follow a prefix of a path: tokens int64 [C], including the path's own, and their scores [C]."""

    tokens: Tensor
    scores: Tensor


@torch.no_grad()
def constrained_beam_search(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: TokenTrie,
    num_beams: int,
    mode: ModeOption = "auto",
    prefix: SharedPrefix | None = None,
    softmax: Softmax = VOCABULARY,
    excluded: Tensor | None = None,
    items: ItemScores | None = None,
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
        prefix: Tokens that all prompts begin with and that ``input_ids`` leaves out.
        softmax: What the softmax behind a code's probability runs over; narrower ones than the paper's give a
            different ranking, more cheaply.
        excluded: [B, E] catalogue rows that each user must not get, -1 for padding; None if everything may be
            recommended. Beams then never enter a part of the trie that holds only such rows, as if the user's trie
            were that of the other items.
        items: Scores of the trie's items as wholes, mixed into those of their paths; None for paths alone.

    Returns:
        Catalogue rows [B, K] without duplicates, K = min(num_beams, n_items), and their
        log-probabilities [B, K] (with ``items``, their scores) in float32, or float64 if the model computes in it. A
        user with fewer than K items left has row -1 and log-probability -inf in the last places.

    Raises:
        ValueError: on inputs that are not left-padded [B, T], fewer than one beam, an unknown mode, a trie on another
            device or with tokens that the model lacks.
    """
    _check_prompts(input_ids, attention_mask)
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    if trie.device != input_ids.device:
        raise ValueError(f"the trie is on {trie.device}, the prompts on {input_ids.device}: use trie.to(device)")
    _check_tokens(trie.max_token, lm)
    forward = _open(lm, input_ids, attention_mask, mode, sum(widths(trie, num_beams)[:-1]), prefix)
    return search(forward, trie, num_beams, softmax, excluded, items)


def widths(trie: TokenTrie, num_beams: int) -> list[int]:
    """Return how many beams a user has at each level.

    With min(num_beams, level size) beams per level, every user has the same number of beams, and always enough
    candidates. By induction: if all nodes of a level were kept, all nodes of the next are candidates. If only
    num_beams of them were, each has at least one child, which makes num_beams candidates, and the next level, being
    no smaller, gets num_beams too.
    """
    return [min(num_beams, size) for size in trie.level_sizes]


def search(
    forward: BeamForward,
    trie: TokenTrie,
    num_beams: int,
    softmax: Softmax = VOCABULARY,
    excluded: Tensor | None = None,
    items: ItemScores | None = None,
) -> tuple[Tensor, Tensor]:
    """Grow the beams of ``forward`` into items; see `constrained_beam_search` for the returned values.

    Args:
        forward: Prompts (or encoded inputs) of B users, not yet started.
        trie: The paths of all items, on the same device.
        num_beams: Beams kept per user and level.
        softmax: As for `constrained_beam_search`.
        excluded: As for `constrained_beam_search`.
        items: As for `constrained_beam_search`.
    """
    assert items is None or items.trie is trie
    closed = None if excluded is None else ExcludedItems(trie, excluded)
    states = forward.start().unsqueeze(1)
    nodes = torch.zeros(len(states), 1, dtype=torch.int64, device=states.device)
    prefixes = nodes.new_zeros(*nodes.shape, 0)
    scores = torch.zeros(nodes.shape, dtype=score_dtype(states.dtype), device=states.device)
    of_nodes = None if items is None else NodeScores(items, states.squeeze(1), excluded)
    for depth, width in enumerate(widths(trie, num_beams)):
        log_probs = softmax.log_probs(forward.readout, states, trie.level_tokens(depth), prefixes)
        nodes, scores, tokens, parents = _grow(trie, depth, nodes, scores, log_probs, width, closed, of_nodes)
        if depth + 1 < trie.n_levels:
            states = forward.advance(tokens, parents)
            inherited = prefixes.gather(1, parents.unsqueeze(-1).expand(-1, -1, depth))
            prefixes = torch.cat([inherited, tokens.unsqueeze(-1)], dim=-1)
    rows = trie.rows(nodes)
    return (rows, scores) if closed is None else without_dead_beams(rows, scores, widths(trie, num_beams)[-1])


def _grow(
    trie: TokenTrie,
    depth: int,
    nodes: Tensor,
    scores: Tensor,
    log_probs: Tensor,
    width: int,
    excluded: ExcludedItems | None,
    items: NodeScores | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Extend beams by one token and keep the best ``width``.

    Args:
        trie: The trie.
        depth: Depth of ``nodes``.
        nodes: [B, K] nodes that the beams have reached.
        scores: [B, K] their scores.
        log_probs: [B, K, C] of each of the level's tokens after each beam.
        width: Beams to keep, at most the number of children of every user's nodes (if nothing is excluded).
        excluded: What users must not get. A beam with no allowed item left is dead: its log-probability is -inf, and
            it comes last. By the induction in `widths`, on the user's trie without the closed nodes, a user has all
            the live beams that this trie allows.
        items: Scores that count in addition to ``log_probs``; None for none.

    Returns:
        Nodes, scores, tokens and parents (index of the beam that was extended) of the new beams, each [B, width].
    """
    children = trie.children(depth, nodes)
    steps = log_probs.gather(-1, children.columns)
    if items is not None:
        steps = steps.lerp(items.steps(depth, nodes, children.nodes).to(steps.dtype), items.weight)
    totals = scores.unsqueeze(-1) + steps
    # A real child must win against padding even if the model gives it a probability of 0.
    totals = totals.clamp(min=torch.finfo(totals.dtype).min).masked_fill(~children.valid, -torch.inf)
    if excluded is not None:
        dead = scores.unsqueeze(-1) == -torch.inf
        totals = totals.masked_fill(dead | excluded.closed(depth + 1, children.nodes), -torch.inf)
        width = min(width, totals[0].numel())  # nodes with few children may be all that is left
    scores, picked = totals.flatten(1).topk(width)
    parents = picked.div(children.nodes.shape[-1], rounding_mode="floor")
    nodes, columns = (values.flatten(1).gather(1, picked) for values in (children.nodes, children.columns))
    return nodes, scores, trie.level_tokens(depth)[columns], parents


@torch.no_grad()
def score_paths(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    paths: Tensor,
    mode: ModeOption = "auto",
    prefix: SharedPrefix | None = None,
    softmax: Softmax = VOCABULARY,
    items: ItemScores | None = None,
) -> Tensor:
    """Return the exact log-likelihood of given candidate paths after every prompt.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [B, T] left-padded prompts.
        attention_mask: [B, T], 0 on padding.
        paths: [B, C, L] int64 vocabulary ids of each user's candidates; they need not be in any trie.
        mode: As for `constrained_beam_search`.
        prefix: Tokens that all prompts begin with.
        softmax: As for `constrained_beam_search`; one over the children of a trie knows the paths of that trie only.
        items: As for `constrained_beam_search`; these too know the paths of their trie only.

    Returns:
        Log-probabilities (with ``items``, scores) [B, C], in float32, or float64 if the model computes in it.

    Raises:
        ValueError: on prompts as in `constrained_beam_search`, and on paths of another shape, dtype or vocabulary, or
            without a probability.
    """
    _check_prompts(input_ids, attention_mask)
    if paths.dim() != 3 or len(paths) != len(input_ids) or paths.numel() == 0 or paths.dtype != torch.int64:
        raise ValueError(
            f"paths must be int64 [B, C, L] with B = {len(input_ids)}, got {paths.dtype} {tuple(paths.shape)}"
        )
    _check_tokens(int(paths.max()), lm)
    extra_tokens = min(paths.shape[1], MAX_CHUNK) * (paths.shape[2] - 1)
    return score(_open(lm, input_ids, attention_mask, mode, extra_tokens, prefix), paths, softmax, items)


def score(
    forward: BeamForward, paths: Tensor, softmax: Softmax = VOCABULARY, items: ItemScores | None = None
) -> Tensor:
    """Return the log-likelihood of given paths after the prompts of ``forward``; see `score_paths`.

    Args:
        forward: Prompts (or encoded inputs) of B users, not yet started.
        paths: [B, C, L] int64 vocabulary ids of each user's candidates.
        softmax: As for `constrained_beam_search`.
        items: As for `score_paths`.
    """
    softmax.check(paths)
    # Every path's tokens are columns of a level's log-probabilities
    levels = [paths[:, :, level].unique(return_inverse=True) for level in range(paths.shape[2])]
    tokens, columns = [values for values, _ in levels], torch.stack([inverse for _, inverse in levels], dim=-1)
    states = forward.start().unsqueeze(1)
    of_items = None if items is None else items.of_paths(states.squeeze(1), paths)
    first = softmax.log_probs(forward.readout, states, tokens[0], paths[:, :1, :0]).squeeze(1)
    first = first.gather(1, columns[:, :, 0])
    widest = max(states.shape[-1], *map(len, tokens))
    chunk = max(1, min(paths.shape[1], MAX_CHUNK, MAX_LOG_PROBS // (len(paths) * widest)))
    chunks = zip(first.split(chunk, 1), paths.split(chunk, 1), columns.split(chunk, 1), strict=True)
    scores = torch.cat([_score_chunk(forward, *parts, tokens, softmax) for parts in chunks], dim=1)
    return scores if items is None or of_items is None else scores.lerp(of_items.to(scores.dtype), items.weight)


def path_steps(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    path: Tensor,
    trie: TokenTrie,
    mode: ModeOption = "auto",
    prefix: SharedPrefix | None = None,
    softmax: Softmax = VOCABULARY,
    items: ItemScores | None = None,
) -> list[PathStep]:
    """Return what each token of one path competed with after one prompt; its tokens' scores add up to the path's.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        input_ids: [1, T].
        attention_mask: [1, T].
        path: [L] int64 vocabulary ids, a path of the trie.
        trie: The paths of all items.
        mode: As for `constrained_beam_search`.
        prefix: Tokens that the prompt begins with and that ``input_ids`` leaves out.
        softmax: As for `constrained_beam_search`.
        items: As for `constrained_beam_search`.
    """
    _check_prompts(input_ids, attention_mask)
    return steps(_open(lm, input_ids, attention_mask, mode, len(path) - 1, prefix), path, trie, softmax, items)


@torch.no_grad()
def steps(
    forward: BeamForward, path: Tensor, trie: TokenTrie, softmax: Softmax = VOCABULARY, items: ItemScores | None = None
) -> list[PathStep]:
    """Return what each token of a path competed with after the prompt of ``forward``; see `path_steps`."""
    states = forward.start().unsqueeze(1)
    nodes = torch.zeros(1, 1, dtype=torch.int64, device=states.device)
    of_nodes = None if items is None else NodeScores(items, states.squeeze(1))
    found = []
    for depth in range(trie.n_levels):
        level = trie.level_tokens(depth)
        log_probs = softmax.log_probs(forward.readout, states, level, path[:depth].view(1, 1, -1))
        children = trie.children(depth, nodes)
        columns = children.columns[0, 0]
        scores = log_probs[:, :, columns]
        if of_nodes is not None:
            scores = scores.lerp(of_nodes.steps(depth, nodes, children.nodes).to(scores.dtype), of_nodes.weight)
        found.append(PathStep(level[columns], scores[0, 0]))
        if depth + 1 < trie.n_levels:
            nodes = children.nodes[:, 0, level[columns] == path[depth]]
            states = forward.advance(path[depth].view(1, 1), torch.zeros_like(nodes))
    return found


def _score_chunk(
    forward: BeamForward,
    scores: Tensor,
    paths: Tensor,
    columns: Tensor,
    tokens: list[Tensor],
    softmax: Softmax,
) -> Tensor:
    """Add the log-probabilities of the levels after the first to ``scores`` [B, C].

    Args:
        forward: The prompts, already run.
        scores: [B, C] of the paths' first tokens.
        paths: [B, C, L] vocabulary ids.
        columns: [B, C, L] the places of these ids in ``tokens``.
        tokens: Per level, the distinct tokens.
        softmax: As for `constrained_beam_search`.
    """
    n_candidates, n_levels = paths.shape[1:]
    # Every candidate is a beam that starts at the prompt and then only continues itself.
    parents = torch.zeros_like(paths[:, :, 0])
    for level in range(1, n_levels):
        states = forward.advance(paths[:, :, level - 1], parents)
        log_probs = softmax.log_probs(forward.readout, states, tokens[level], paths[:, :, :level])
        scores = scores + log_probs.gather(-1, columns[:, :, level : level + 1]).squeeze(-1)
        parents = torch.arange(n_candidates, device=paths.device).expand_as(parents)
    if n_levels > 1:
        forward.rewind()
    return scores


def _open(
    lm: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    mode: ModeOption,
    extra_tokens: int,
    prefix: SharedPrefix | None,
) -> BeamForward:
    """Return the chosen way of running beams; ``extra_tokens`` counts those that all beams of a user append."""
    if mode not in get_args(ModeOption):
        raise ValueError(f"mode must be one of {', '.join(get_args(ModeOption))}, got {mode!r}")
    longest = input_ids.shape[1] + (len(prefix) if prefix else 0) + extra_tokens
    resolved: Mode = remembered_mode(lm, longest) if mode == "auto" else mode
    return FORWARDS[resolved](lm, input_ids, attention_mask, extra_tokens, prefix)


def _check_prompts(input_ids: Tensor, attention_mask: Tensor) -> None:
    if input_ids.dim() != 2 or input_ids.numel() == 0 or attention_mask.shape != input_ids.shape:
        raise ValueError(
            "input_ids and attention_mask must be non-empty [B, T] of one shape, "
            f"got {tuple(input_ids.shape)} and {tuple(attention_mask.shape)}"
        )
    real = attention_mask.bool()
    if not bool(real[:, -1].all()) or bool((real[:, :-1] & ~real[:, 1:]).any()):
        raise ValueError("prompts must be padded on the left: attention_mask must be zeros, then ones, in every row")


def _check_tokens(max_token: int, lm: nn.Module) -> None:
    size = base_model(lm).get_input_embeddings().weight.shape[0]
    if max_token >= size:
        raise ValueError(f"a path has token id {max_token}, but the model's vocabulary has {size} tokens")
