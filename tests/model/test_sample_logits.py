"""Every shortcut of the training forward gives the loss and the gradients of the plain one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
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
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)).eval()
    lm = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    if kind != "lora":
        return lm
    adapted = get_peft_model(lm, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    return adapted.eval()


def batch(shared: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 90, (5, 30), generator=generator)
    ids[:, :shared] = ids[0, :shared].clone()
    lengths = torch.tensor([30, 22, 17, 25, 29])
    places = torch.arange(30)
    where = (places >= lengths.unsqueeze(1) - 5) & (places < lengths.unsqueeze(1) - 1)
    ids[places >= lengths.unsqueeze(1)] = 0
    return ids, where, lengths


def gradients(lm: Any, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    lm.zero_grad()
    logits.log_softmax(-1)[:, 7].sum().backward()
    return {name: weight.grad.clone() for name, weight in lm.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "qwen3", "lora"])
@pytest.mark.parametrize(
    ("option", "way"),
    [("", "_plain"), ("share_prefix", "_shared"), ("packing", "_packed"), ("gradient_checkpointing", "_plain")],
)
def test_shortcuts_change_neither_logits_nor_gradients(kind: str, option: str, way: str) -> None:
    ids, where, lengths = batch()
    plain, lm = make(kind), make(kind).train(option == "gradient_checkpointing")
    expected, forward = plain(input_ids=ids).logits[where], SampleLogits(lm, _with(option, kind))
    logits = forward(ids, where, lengths)
    assert forward._states.__name__ == way  # type: ignore[attr-defined]
    assert (forward._last is not None) == (option != "gradient_checkpointing")
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(lm, logits), gradients(plain, expected), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("share", [True, False])
def test_the_last_block_is_run_where_there_is_loss(attention: str, share: bool) -> None:
    lm, rows = make("llama"), []
    lm.set_attn_implementation(attention)
    lm.model.layers[-1].mlp.register_forward_hook(lambda module, args, output: rows.append(tuple(output.shape[:2])))
    forward, (ids, where, lengths) = SampleLogits(lm, replace(PLAIN, share_prefix=share)), batch()
    aside = torch.zeros_like(where)
    aside[:, 18:20] = True
    where[0, 18:20] = True
    rows.clear()
    sparse, rows_of_sparse = forward(ids, where, lengths, aside), list(rows)
    forward._last = None
    torch.testing.assert_close(sparse, forward(ids, where, lengths, aside), atol=2e-5, rtol=1e-4)
    assert rows_of_sparse == [(5, 6)], "six places of the first sample; the shared beginning has none"


def _with(option: str, kind: str) -> SampleLogitsSettings:
    if kind in ("gpt2", "lora") and option == "gradient_checkpointing":
        pytest.skip("dropout inside is drawn anew")
    return replace(PLAIN, **{option: True}) if option else PLAIN


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
    ids, where, lengths = given = batch()
    forward = SampleLogits(make("mistral", sliding_window=16), share)
    assert forward._states.__name__ == "_plain", "a window is narrower than max_length"  # type: ignore[attr-defined]
    assert forward._last is None
    granite = make("granite")
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
