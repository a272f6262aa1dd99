"""Options with which T5 recommenders run in a second, and a T5 checkpoint as one would find it on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes import TINY, make_tokenizer, write_dataset

TINY_T5: dict[str, Any] = {
    **TINY,
    "t5_d_model": 16,
    "t5_layers": 2,
    "t5_heads": 2,
    "t5_head_dim": 8,
    "t5_d_ff": 32,
    "train_samples": 64,
    "learning_rate": 0.01,
    "cid_clusters": 4,
}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return tiny options for the data set toy in ``folder``, which is written if it is not there."""
    if not (folder / "toy").is_dir():
        write_dataset(folder)
    places = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    return {**TINY_T5, **places, **changes}


def save_t5(folder: Path) -> Path:
    """Save a small randomly initialised T5 with a tokenizer of its own."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = make_tokenizer("ours")
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    settings: dict[str, Any] = {**tokens, "decoder_start_token_id": tokenizer.pad_token_id, "d_model": 24, "d_kv": 8}
    settings |= {"d_ff": 48, "num_layers": 1, "num_heads": 3, "feed_forward_proj": "gated-gelu"}
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
