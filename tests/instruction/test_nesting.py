"""A row that holds several samples of a user gives the losses and gradients of the samples one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import make_builder
from test_samples import sequences
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from recbole_lcrec.data.batches import batches_by_length
from recbole_lcrec.instruction.loader import ASIDE, INPUT_IDS, LOSS_WEIGHTS, collate
from recbole_lcrec.instruction.nesting import nested, nests
from recbole_lcrec.instruction.prompts import Context, Sample
from recbole_lcrec.instruction.samples import EpochSamples
from recbole_lcrec.instruction.templates import ALL_TEMPLATES, FUSIONSEQREC, SEQREC
from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings

SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
SETTINGS = SampleLogitsSettings(0.0, True, False, False, False, 400)


def make(kind: str, size: int) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4)).eval().double()
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(vocab_size=size, head_dim=8, **SHAPE)).eval().double()
    return LlamaForCausalLM(LlamaConfig(vocab_size=size, **SHAPE)).eval().double()


def losses(lm: Any, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each token that carries one, in order, and the gradients of their sum."""
    batch = collate(samples, 0)
    ids, weights = batch[INPUT_IDS], batch[LOSS_WEIGHTS]
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[:, :-1] = weights[:, 1:] > 0
    lengths = torch.tensor([len(sample.ids) for sample in samples])
    aside = batch[ASIDE] if ASIDE in batch else None
    logits = SampleLogits(lm, SETTINGS)(ids, where, lengths, aside)
    found = functional.cross_entropy(logits, ids[:, 1:][where[:, :-1]], reduction="none")
    lm.zero_grad()
    found.mean().backward()
    return found.detach(), torch.cat([weight.grad.flatten() for weight in lm.parameters()])


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_a_row_gives_the_losses_and_gradients_of_its_samples(kind: str) -> None:
    builder = make_builder()
    items = np.array([3, 1, 4, 1, 5, 0])
    chains = [[Context(items[:n], int(items[n])) for n in (1, 2, 4, 5)], [Context(items[:n], 2) for n in (2, 3)]]
    templates = [SEQREC[4], next(one for one in FUSIONSEQREC if nests(one) and "title" in one.fields)]
    rows, apart = [], []
    for template, contexts in zip(templates, chains, strict=True):
        row = nested(builder, template, contexts)
        assert row is not None and row.samples == len(contexts)
        rows.append(row)
        apart += [builder.sample(template, context) for context in contexts]
    lm = make(kind, len(builder.tokenizer))
    together, expected = losses(lm, rows), losses(lm, apart)
    torch.testing.assert_close(together[0], expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(together[1], expected[1], atol=1e-6, rtol=0)
    assert sum(len(row.ids) for row in rows) < 0.7 * sum(len(sample.ids) for sample in apart)


def test_what_does_not_nest_stays_apart() -> None:
    builder, items = make_builder(), np.array([3, 1, 4, 1, 5, 0])
    moved = [Context(items[:3], 2), Context(items[1:5], 2)]
    assert nested(builder, SEQREC[0], moved) is None
    short = make_builder(max_length=80)
    assert nested(short, SEQREC[0], [Context(items[:2], 2), Context(items[:5], 2)]) is None
    assert [nests(one) for one in ALL_TEMPLATES["item2index"]] == [False] * len(ALL_TEMPLATES["item2index"])


def test_an_epoch_has_every_sample_once() -> None:
    builder = make_builder(tasks=["seqrec"])
    samples = EpochSamples(builder, sequences([8, 5, 2, 9], width=5), None, seed=0)
    apart, together = samples.build(3), samples.build(3, most=4)
    assert together.counts.sum() == len(apart) == 20 and together.counts.max() == 4 and len(together) == 11
    responses = [sorted(ids for sample in table for ids in _responses(sample)) for table in (apart, together)]
    assert len(responses[0]) == 20 and responses[0] == responses[1]


def _responses(sample: Sample) -> list[tuple[int, ...]]:
    """Return the stretches that carry loss."""
    edges = np.flatnonzero(np.diff(sample.weights > 0, prepend=False, append=False))
    return [tuple(sample.ids[start:end].tolist()) for start, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize(("step", "accumulated"), [(4, 1), (4, 3), (16, 2)])
def test_batches_of_rows_hold_about_as_many_samples(step: int, accumulated: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, size=301)
    lengths = 30 + 20 * counts
    batches = list(batches_by_length(lengths, step, accumulated, rng, shuffle=True, counts=counts))
    assert sorted(np.concatenate(batches).tolist()) == list(range(301))
    assert len(batches) == -(-counts.sum() // step)
    sizes = np.array([counts[batch].sum() for batch in batches[:-accumulated]])
    assert sizes.min() > step - 4 and sizes.max() < step + 4
