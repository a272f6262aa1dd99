"""Beams of every kind of causal LM, attention or none, are those of a plain forward without padding, cache or mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from decoding_helpers import VOCABULARY, random_paths, random_prompts

from recbole_lcrec.decoding import TokenTrie, choose_mode, constrained_beam_search, score_paths

SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
COMMON = {**SHAPE, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 0}
SSM = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
MIXER = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
WINDOW = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}

MODELS: dict[str, Callable[[], Any]] = {
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                     max_position_embeddings=64, word_embed_proj_dim=32, init_std=0.3, pad_token_id=0)
    ),
    "bloom (alibi)": lambda: hf.BloomForCausalLM(
        hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "gemma2 (soft cap)": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**COMMON, **WINDOW, head_dim=8)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**COMMON, head_dim=8)),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**COMMON)),
    "gpt-oss (sinks, experts)": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(**COMMON, **WINDOW, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**SSM, state_size=4)),
    "mamba2": lambda: hf.Mamba2ForCausalLM(
        hf.Mamba2Config(**SSM, state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=8)
    ),
    "rwkv": lambda: hf.RwkvForCausalLM(
        hf.RwkvConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, context_length=64)
    ),
    "falcon-h1 (hybrid)": lambda: hf.FalconH1ForCausalLM(
        hf.FalconH1Config(**COMMON, **MIXER, mamba_d_ssm=64, mamba_n_groups=1, mamba_chunk_size=8)
    ),
    "jamba (hybrid, experts)": lambda: hf.JambaForCausalLM(
        hf.JambaConfig(**COMMON, num_experts=2, mamba_d_state=4, mamba_dt_rank=4, attn_layer_period=2,
                       attn_layer_offset=1)
    ),
    "bamba (hybrid)": lambda: hf.BambaForCausalLM(
        hf.BambaConfig(**COMMON, **MIXER, mamba_chunk_size=8, attn_layer_indices=[1])
    ),
    "lfm2 (convolutions)": lambda: hf.Lfm2ForCausalLM(
        hf.Lfm2Config(**COMMON, layer_types=["conv", "full_attention"])
    ),
    "recurrent gemma": lambda: hf.RecurrentGemmaForCausalLM(
        hf.RecurrentGemmaConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
                                num_attention_heads=4, attention_window_size=6, lru_width=32, pad_token_id=0)
    ),
}  # fmt: skip


def made(name: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MODELS[name]().eval()


@torch.no_grad()
def unpadded_scores(lm: Any, ids: torch.Tensor, mask: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """Return the log-likelihood [B, N] of every path [N, L] after every prompt, from whole sequences alone."""
    rows = []
    for prompt, real in zip(ids, mask.bool(), strict=True):
        own = prompt[real]
        whole = torch.cat([own.expand(len(paths), -1), paths], dim=1)
        log_probs = lm(input_ids=whole, use_cache=False).logits[:, len(own) - 1 : -1].log_softmax(-1)
        rows.append(log_probs.gather(-1, paths.unsqueeze(-1)).squeeze(-1).sum(1))
    return torch.stack(rows)


@pytest.mark.parametrize("name", list(MODELS))
def test_beams_are_those_of_plain_forwards(name: str) -> None:
    lm, (ids, mask), paths = made(name), random_prompts(3), random_paths(25)
    truth = unpadded_scores(lm, ids, mask, paths)
    rows, scores = constrained_beam_search(lm, ids, mask, TokenTrie(paths), 25)
    best, order = truth.sort(dim=1, descending=True)
    torch.testing.assert_close(scores, best, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(truth.gather(1, rows), best, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(score_paths(lm, ids, mask, paths.expand(3, -1, -1)), truth, atol=2e-3, rtol=1e-3)


def test_a_recurrent_model_whose_state_takes_in_padding_is_run_without() -> None:
    assert choose_mode(made("rwkv")) == "recompute"
