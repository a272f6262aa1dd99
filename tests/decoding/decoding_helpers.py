"""Tiny random language models, random paths and prompts, and two slow but obvious references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from recbole_lcrec.decoding.architecture import cache_name

VOCABULARY = 400
FIRST_CODE = 200
"""Prompts draw from the tokens below, paths from those at and above."""


def _config(config_class: type, **settings: Any) -> Any:
    # A wide initialisation, so that attention and positions matter and log-probabilities are far apart.
    common = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None}
    return config_class(**{**common, **settings})


def _llama_like(config_class: type, **settings: Any) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return _config(config_class, **shape, num_attention_heads=4, num_key_value_heads=2, **settings)


class PositionBlindModel(LlamaModel):
    """An architecture that accepts position ids and silently ignores them."""

    def forward(self, *args: Any, position_ids: Any = None, **rest: Any) -> Any:
        return super().forward(*args, **rest)


class MaskBlindModel(LlamaModel):
    """An architecture that understands 2D masks only and silently ignores all others."""

    def forward(self, *args: Any, attention_mask: Any = None, **rest: Any) -> Any:
        mask = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
        return super().forward(*args, attention_mask=mask, **rest)


class CachelessModel(LlamaModel):
    """An architecture without a usable cache."""

    def forward(self, *args: Any, use_cache: Any = None, **rest: Any) -> Any:
        rest.pop(cache_name(), None)
        return super().forward(*args, use_cache=False, **rest)


def llama_around(body: type[LlamaModel], config: Any) -> nn.Module:
    """Return a Llama with another body, its weights the same."""
    lm = LlamaForCausalLM(config)
    weights, lm.model = lm.model.state_dict(), body(config)
    lm.model.load_state_dict(weights)
    return lm


def build_lm(name: str, **settings: Any) -> nn.Module:
    """Return a tiny random model in evaluation mode; the same at every call."""
    builders: dict[str, Callable[[], nn.Module]] = {
        "llama": lambda: LlamaForCausalLM(_llama_like(LlamaConfig, **settings)),
        "qwen2": lambda: Qwen2ForCausalLM(_llama_like(Qwen2Config, **settings)),
        "gpt2": lambda: GPT2LMHeadModel(_config(GPT2Config, n_embd=32, n_layer=2, n_head=4, **settings)),
        "mistral": lambda: MistralForCausalLM(_llama_like(MistralConfig, **settings)),
        "position_blind": lambda: llama_around(PositionBlindModel, _llama_like(LlamaConfig, **settings)),
        "mask_blind": lambda: llama_around(MaskBlindModel, _llama_like(LlamaConfig, **settings)),
        "cacheless": lambda: llama_around(CachelessModel, _llama_like(LlamaConfig, **settings)),
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return builders[name]().eval()


def random_paths(n_items: int, n_levels: int = 3, n_codes: int = 12, seed: int = 0) -> Tensor:
    """Return distinct paths [n_items, n_levels]; the same codes occur at every level, as in any vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(n_codes**n_levels, generator=generator)[:n_items]
    codes = [numbers // n_codes**level % n_codes for level in range(n_levels)]
    return FIRST_CODE + torch.stack(codes, dim=1)


def random_prompts(n_users: int, length: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return left-padded prompts and their mask, [n_users, length], with 1 to ``length`` real tokens each."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(1, FIRST_CODE, (n_users, length), generator=generator)
    padding = torch.randint(0, length, (n_users, 1), generator=generator)
    mask = (torch.arange(length) >= padding).long()
    return input_ids * mask, mask


@torch.no_grad()
def plain_path_scores(lm: nn.Module, input_ids: Tensor, attention_mask: Tensor, paths: Tensor) -> Tensor:
    """Return the log-likelihood [B, N] of every path [N, L] after every prompt, by plain forwards of prompt + path."""
    rows = []
    for ids, mask in zip(input_ids, attention_mask, strict=True):
        whole = torch.cat([ids.expand(len(paths), -1), paths], dim=1)
        whole_mask = torch.cat([mask.expand(len(paths), -1), torch.ones_like(paths)], dim=1)
        positions = (whole_mask.cumsum(1) - 1).clamp(min=0)
        logits = lm(input_ids=whole, attention_mask=whole_mask, position_ids=positions, use_cache=False).logits
        log_probs = logits[:, len(ids) - 1 : -1].log_softmax(-1)
        rows.append(log_probs.gather(-1, paths.unsqueeze(-1)).squeeze(-1).sum(1))
    return torch.stack(rows)


SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8}


def build_t5(kind: str = "t5", attention: str = "sdpa") -> Any:
    """Return a tiny random T5 in evaluation mode, initialised wide so that attention and distances matter."""
    classes: dict[str, tuple[Any, Any]] = {
        "t5": (T5Config, T5ForConditionalGeneration),
        "mt5": (MT5Config, MT5ForConditionalGeneration),
    }
    config, model = classes[kind]
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    options = {
        **SHAPE,
        **tokens,
        "vocab_size": VOCABULARY,
        "initializer_factor": 2.0,
        "relative_attention_max_distance": 16,
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        lm = model(config(**options, attn_implementation=attention)).eval()
        biases = [p for name, p in lm.named_parameters() if "relative_attention_bias" in name]
        assert len(biases) == 2, "the encoder's first layer and the decoder's"
        for bias in biases:
            torch.nn.init.normal_(bias, std=2.0)
    return lm


def random_inputs(n_users: int, length: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs of 1 to ``length`` tokens, padded at the right, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, FIRST_CODE, (n_users, length), generator=generator)
    mask = (torch.arange(length) < torch.randint(1, length + 1, (n_users, 1), generator=generator)).long()
    return ids * mask, mask
