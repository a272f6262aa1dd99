"""The random language models, catalogues and prompts that decoding and training are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LEVELS, CODES = 4, 256


@dataclass(frozen=True)
class Shape:
    """Shape of a Llama.

    Attributes:
        hidden: Width.
        layers: Decoder layers.
        heads: Attention heads.
        words: Entries of the vocabulary that are words; the index tokens follow them.
    """

    hidden: int
    layers: int
    heads: int
    words: int


SIZES = {
    "XS": Shape(hidden=128, layers=2, heads=4, words=4_000),
    "S": Shape(hidden=256, layers=4, heads=4, words=32_000),
    "M": Shape(hidden=512, layers=8, heads=8, words=32_000),
}

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gpt2")


def make_lm(size: str, architecture: str = "llama", seed: int = 0) -> Any:
    """Return a random causal LM in evaluation mode.

    Its weights are larger than usual, so that attention matters and scores lie far apart.

    Args:
        size: One of ``SIZES``.
        architecture: One of ``ARCHITECTURES``.
        seed: Of the weights.
    """
    import transformers

    shape = SIZES[size]
    common: dict[str, Any] = {
        "vocab_size": shape.words + LEVELS * CODES,
        "initializer_range": 2.0 / shape.hidden**0.5,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture == "gpt2":
            config: Any = transformers.GPT2Config(
                n_embd=shape.hidden, n_layer=shape.layers, n_head=shape.heads, n_positions=1024, **common
            )
            return transformers.GPT2LMHeadModel(config).eval()
        config = transformers.AutoConfig.for_model(
            architecture,
            hidden_size=shape.hidden,
            intermediate_size=round(shape.hidden * 8 / 3 / 32) * 32,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.hidden // shape.heads,
            **common,
        )
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def make_paths(n_items: int, words: int, seed: int = 0) -> torch.Tensor:
    """Return distinct random paths int64 [n_items, 4] in vocabulary ids; the first codes are skewed (Zipf).

    Args:
        n_items: Items, at most a tenth of all possible paths.
        words: Vocabulary ids below this one are words.
        seed: Of the paths.
    """
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, CODES + 1)
    numbers = np.zeros(0, np.int64)
    while len(numbers) < n_items:
        missing = round((n_items - len(numbers)) * 1.2) + 10
        codes = rng.integers(CODES, size=(missing, LEVELS))
        codes[:, 0] = rng.choice(CODES, size=missing, p=weights / weights.sum())
        numbers = np.unique(np.concatenate([numbers, codes @ (CODES ** np.arange(LEVELS))]))
    numbers = rng.permutation(numbers)[:n_items]
    codes = numbers[:, None] // CODES ** np.arange(LEVELS) % CODES
    return torch.from_numpy(codes + words + CODES * np.arange(LEVELS))


def make_prompts(n_users: int, words: int, shared: int, seed: int = 0) -> list[np.ndarray]:
    """Return prompts of 120 to 200 tokens, int32 each, that begin with the same ``shared`` tokens.

    Args:
        n_users: Number of prompts.
        words: Tokens are drawn below this id.
        shared: Tokens of the common instruction, at most 100.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    instruction = rng.integers(words, size=shared)
    lengths = rng.integers(120, 201, size=n_users)
    return [np.concatenate([instruction, rng.integers(words, size=n - shared)]).astype(np.int32) for n in lengths]
