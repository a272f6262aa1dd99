"""Beams of T5 against transformers' generate, plain forwards and scoring every item."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoding_helpers import build_t5, random_inputs, random_paths
from torch import Tensor

from recbole_lcrec.decoding import TokenTrie, beam
from recbole_lcrec.decoding.encoder_decoder import (
    EncoderDecoderForward,
    encoder_decoder_beam_search,
    encoder_decoder_score_paths,
)


@torch.no_grad()
def plain_scores(lm: Any, input_ids: Tensor, attention_mask: Tensor, paths: Tensor) -> Tensor:
    """Return the log-likelihood [B, N] of every path [N, L] by plain forwards, one unpadded user at a time."""
    begun = torch.cat([torch.zeros_like(paths[:, :1]), paths[:, :-1]], dim=1)
    rows = []
    for ids, mask in zip(input_ids, attention_mask, strict=True):
        real = ids[mask.bool()].expand(len(paths), -1)
        log_probs = lm(input_ids=real, decoder_input_ids=begun, use_cache=False).logits.log_softmax(-1)
        rows.append(log_probs.gather(-1, paths.unsqueeze(-1)).squeeze(-1).sum(1))
    return torch.stack(rows)


def generated(lm: Any, inputs: tuple[Tensor, Tensor], paths: Tensor, num_beams: int) -> tuple[Tensor, Tensor]:
    """Return items and scores [B, num_beams] that transformers' generate finds under a trie constraint."""
    row_of = {tuple(path): row for row, path in enumerate(paths.tolist())}
    children: dict[tuple[int, ...], list[int]] = {}
    for path in sorted(row_of):
        for level in range(len(path)):
            following = children.setdefault(path[:level], [])
            if path[level] not in following:
                following.append(path[level])
    output = lm.generate(
        input_ids=inputs[0],
        attention_mask=inputs[1],
        prefix_allowed_tokens_fn=lambda _, ids: children.get(tuple(ids[1:].tolist()), [0]),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=paths.shape[1],
        do_sample=False,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    items = torch.tensor([row_of[tuple(path)] for path in output.sequences[:, 1:].tolist()])
    return items.view(-1, num_beams), output.sequences_scores.view(-1, num_beams)


@pytest.mark.parametrize("n_levels", [2, 4])
@pytest.mark.usefixtures("generate_in_float64")
def test_equals_generate_exactly_in_float64(n_levels: int) -> None:
    lm, inputs, paths = build_t5().double(), random_inputs(30), random_paths(100, n_levels)
    items, scores = encoder_decoder_beam_search(lm, *inputs, TokenTrie(paths), 10)
    expected_items, expected_scores = generated(lm, inputs, paths, 10)
    assert torch.equal(items, expected_items)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-9)


def test_equals_generate_in_float32() -> None:
    lm, inputs, paths = build_t5(), random_inputs(40, seed=1), random_paths(300, 4)
    items, scores = encoder_decoder_beam_search(lm, *inputs, TokenTrie(paths), 10)
    expected_items, expected_scores = generated(lm, inputs, paths, 10)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-4)
    assert torch.equal(items, expected_items)
    assert (scores[:, 0] - scores[:, -1]).min() > 0.1, "scores far enough apart to tell items from each other"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_full_width_beam_equals_brute_force(kind: str, attention: str) -> None:
    lm, inputs, paths = build_t5(kind, attention).double(), random_inputs(5), random_paths(70, 4)
    truth = plain_scores(lm, *inputs, paths)
    items, scores = encoder_decoder_beam_search(lm, *inputs, TokenTrie(paths), 70)
    expected, order = truth.sort(descending=True)
    assert torch.equal(items, order)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
    given = encoder_decoder_score_paths(lm, *inputs, paths.expand(5, -1, -1))
    torch.testing.assert_close(given, truth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_levels", [1, 3])
def test_chunks_of_candidates_change_nothing(n_levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, inputs, paths = build_t5().double(), random_inputs(3), random_paths(12, n_levels)
    candidates = paths[torch.randint(12, (3, 20), generator=torch.Generator().manual_seed(0))]
    whole = encoder_decoder_score_paths(lm, *inputs, candidates)
    monkeypatch.setattr(beam, "MAX_CHUNK", 7)
    torch.testing.assert_close(encoder_decoder_score_paths(lm, *inputs, candidates), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_more_padding_changes_nothing(side: str) -> None:
    lm, (ids, mask), trie = build_t5().double(), random_inputs(6), TokenTrie(random_paths(200))
    items, scores = encoder_decoder_beam_search(lm, ids, mask, trie, 10)
    more, none = torch.full((6, 5), 7), torch.zeros(6, 5, dtype=torch.int64)
    order = (lambda a, b: (a, b)) if side == "left" else (lambda a, b: (b, a))
    padded = torch.cat(order(more, ids), 1), torch.cat(order(none, mask), 1)
    other_items, other_scores = encoder_decoder_beam_search(lm, *padded, trie, 10)
    assert torch.equal(items, other_items)
    torch.testing.assert_close(scores, other_scores, rtol=0, atol=1e-9)


def test_batching_changes_nothing() -> None:
    lm, inputs, trie = build_t5().double(), random_inputs(8), TokenTrie(random_paths(200))
    items, scores = encoder_decoder_beam_search(lm, *inputs, trie, 10)
    for user in range(8):
        one = [part[user : user + 1] for part in inputs]
        alone, alone_scores = encoder_decoder_beam_search(lm, one[0], one[1], trie, 10)
        assert torch.equal(alone[0], items[user])
        torch.testing.assert_close(alone_scores[0], scores[user], rtol=0, atol=1e-9)


def test_the_encoder_runs_once_and_beams_share_its_keys() -> None:
    lm, inputs, trie = build_t5(), random_inputs(4), TokenTrie(random_paths(200, 4))
    encoded, decoded, projected = [], [], []
    hooks = [
        lm.encoder.register_forward_hook(lambda *_: encoded.append(1)),
        lm.decoder.embed_tokens.register_forward_hook(lambda module, args, _: decoded.append(tuple(args[0].shape))),
        lm.decoder.block[0]
        .layer[1]
        .EncDecAttention.k.register_forward_hook(lambda module, args, _: projected.append(tuple(args[0].shape[:2]))),
    ]
    encoder_decoder_beam_search(lm, *inputs, trie, 10)
    for hook in hooks:
        hook.remove()
    assert encoded == [1] and projected == [(4, 12)]
    assert decoded == [(4, 1), (4, 10), (4, 10), (4, 10)]


def test_rewinding_forgets_the_beams() -> None:
    lm, inputs = build_t5().double(), random_inputs(3)
    forward = EncoderDecoderForward(lm, *inputs)
    forward.start()
    tokens = torch.tensor([[201, 202]]).expand(3, -1)
    first = forward.advance(tokens, torch.zeros_like(tokens))
    forward.advance(tokens, torch.tensor([[1, 0]]).expand(3, -1))
    forward.rewind()
    torch.testing.assert_close(forward.advance(tokens, torch.zeros_like(tokens)), first, rtol=0, atol=1e-12)


def test_autocast_gives_items() -> None:
    lm, inputs, paths = build_t5(), random_inputs(3), random_paths(60)
    with torch.autocast("cpu", torch.bfloat16):
        items, scores = encoder_decoder_beam_search(lm, *inputs, TokenTrie(paths), 60)
    assert items.sort(dim=1).values.equal(torch.arange(60).expand(3, -1)) and scores.dtype == torch.float32


def test_wrong_arguments_are_refused() -> None:
    lm, (ids, mask), paths = build_t5(), random_inputs(3), random_paths(20)
    trie = TokenTrie(paths)
    for message, arguments in (
        ("num_beams must be", (ids, mask, trie, 0)),
        ("of one shape", (ids, mask[:, 1:], trie, 5)),
        ("needs a token", (ids, torch.zeros_like(mask), trie, 5)),
    ):
        with pytest.raises(ValueError, match=message):
            encoder_decoder_beam_search(lm, *arguments)
    for wrong in (paths, paths.expand(2, -1, -1), paths.expand(3, -1, -1).float()):
        with pytest.raises(ValueError, match=r"paths must be int64 \[B, C, L\]"):
            encoder_decoder_score_paths(lm, ids, mask, wrong)
