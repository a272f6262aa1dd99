"""Every shortcut of the training forward gives the loss and the gradients of the plain one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings, common_prefix
from recbole_lcrec.utils.errors import UserError

PLAIN = SampleLogitsSettings(
    lm_dropout=0.0,
    share_prefix=False,
    packing=False,
    gradient_checkpointing=False,
    torch_compile=False,
    max_length=64,
)
SHAPE: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}


def make(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)).eval()
    if kind == "granite":
        return GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0)).eval()
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**SHAPE, **changes)).eval()
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()


def batch(shared: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 90, (5, 30), generator=generator)
    ids[:, :shared] = ids[0, :shared].clone()
    lengths = torch.tensor([30, 22, 17, 25, 29])
    places = torch.arange(30)
    where = (places >= lengths.unsqueeze(1) - 5) & (places < lengths.unsqueeze(1) - 1)
    ids[places >= lengths.unsqueeze(1)] = 0
    return ids, where, lengths


def result(lm: Any, settings: SampleLogitsSettings, given: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor], str]:
    forward = SampleLogits(lm, settings)
    logits = forward(*given)
    lm.zero_grad()
    logits.log_softmax(-1)[:, 7].sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in lm.named_parameters() if weight.grad is not None}
    return logits.detach(), gradients, forward._states.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize(
    ("option", "way"),
    [("share_prefix", "_shared"), ("packing", "_packed"), ("gradient_checkpointing", "_plain")],
)
def test_shortcuts_change_neither_logits_nor_gradients(kind: str, option: str, way: str) -> None:
    given = batch()
    expected, expected_gradients, _ = result(make(kind), PLAIN, given)
    ids, where, _ = given
    torch.testing.assert_close(expected, make(kind)(input_ids=ids).logits[where], atol=1e-5, rtol=1e-5)
    logits, gradients, used = result(make(kind).train(option == "gradient_checkpointing"), _with(option, kind), given)
    assert used == way
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(gradients, expected_gradients, atol=1e-4, rtol=1e-3)


def _with(option: str, kind: str) -> SampleLogitsSettings:
    if kind == "gpt2" and option == "gradient_checkpointing":
        pytest.skip("GPT-2 has dropout inside, which is drawn anew")
    return replace(PLAIN, **{option: True})


def test_the_shared_beginning_is_run_once() -> None:
    lm, shapes = make("llama"), []
    forward = SampleLogits(lm, replace(PLAIN, share_prefix=True))
    lm.model.embed_tokens.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    forward(*batch())
    assert shapes == [(1, 12, 32), (5, 18, 32)], "the shortest sample has loss from place 12"
    shapes.clear()
    forward(*batch(shared=3))
    ids, where, lengths = batch()
    forward(ids[:1], where[:1], lengths[:1])
    assert shapes == [(5, 30, 32), (1, 30, 32)]


def test_common_prefix() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 4]])
    nowhere = torch.zeros(2, 4, dtype=torch.bool)
    assert common_prefix(ids, nowhere) == 2
    assert common_prefix(ids[:1], nowhere[:1]) == 3, "a token is left to run"
    marked = nowhere.clone()
    marked[1, 0] = True
    assert common_prefix(ids, marked) == 0


def test_models_that_need_it_get_the_plain_way() -> None:
    share = replace(PLAIN, share_prefix=True)
    given = batch()
    _, _, way = result(make("mistral", sliding_window=16), share, given)
    assert way == "_plain", "a window is narrower than max_length"
    granite = make("granite")
    ids, where, lengths = given
    torch.testing.assert_close(SampleLogits(granite, share)(*given), granite(input_ids=ids).logits[where])
    with pytest.raises(UserError, match="packing: GraniteForCausalLM"):
        SampleLogits(granite, replace(PLAIN, packing=True))


def test_dropout_is_drawn_in_training_only() -> None:
    for settings in (PLAIN, replace(PLAIN, share_prefix=True), replace(PLAIN, packing=True)):
        lm, given = make("llama"), batch()
        forward = SampleLogits(lm, replace(settings, lm_dropout=0.5))
        torch.testing.assert_close(forward(*given), SampleLogits(lm, PLAIN)(*given), atol=2e-5, rtol=1e-4)
        lm.train()
        assert not torch.allclose(forward(*given), forward(*given), atol=0.1)
