"""The same made-up data for both sides of a comparison: users' sequences, paths, embeddings, a language model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VALID_AND_TEST = 2
"""Last items of a sequence, which are held out."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, and on how much.

    Attributes:
        items: Items of the catalogue.
        users: Users, each with the same number of interactions.
        length: Items of a user's training part.
        batch: Samples of a training step.
        steps: Training steps that are timed.
        asked: Users of an evaluation.
        beams: Beams of an evaluation.
        levels: Codes of a path.
        codes: Codes of a level.
        words: Entries of the language model's vocabulary before the codes.
        width: Of the language model, and its ``layers``.
        embedded: Items of the catalogue that the RQ-VAE quantizes, and the ``dimensions`` of their embeddings.
        encoder: Widths of the RQ-VAE's hidden layers, and its ``latent`` one.
        rqvae_batch: Items of its training step.
    """

    items: int = 2_000
    users: int = 600
    length: int = 21
    batch: int = 64
    steps: int = 6
    asked: int = 32
    beams: int = 20
    levels: int = 4
    codes: int = 512
    words: int = 1_260
    width: int = 128
    layers: int = 4
    embedded: int = 10_000
    dimensions: int = 768
    encoder: tuple[int, ...] = (2048, 1024, 512, 256)
    latent: int = 128
    rqvae_batch: int = 2048

    def embeddings(self) -> np.ndarray:
        """Return the embeddings of the RQ-VAE's catalogue, float32 [embedded, dimensions], in a few hundred groups."""
        rng = np.random.default_rng(0)
        groups = 2 * rng.normal(size=(300, self.dimensions))
        noise = rng.normal(size=(self.embedded, self.dimensions))
        return (groups[rng.integers(300, size=self.embedded)] + noise).astype(np.float32)

    def sequences(self) -> np.ndarray:
        """Return each user's items in time order, int64 [users, length + 2]; items of a user are near each other."""
        rng = np.random.default_rng(1)
        steps = rng.integers(1, 40, size=(self.users, self.length + VALID_AND_TEST))
        return (rng.integers(self.items, size=(self.users, 1)) + steps.cumsum(axis=1)) % self.items

    def paths(self) -> np.ndarray:
        """Return a path for each item, distinct, int64 [items, levels]."""
        rng = np.random.default_rng(2)
        numbers = rng.choice(self.codes**3, size=self.items, replace=False)
        last = rng.integers(self.codes, size=(self.items, self.levels - 3))
        return np.concatenate([numbers[:, None] // self.codes ** np.arange(3) % self.codes, last], axis=1)


def write_atomic_files(sizes: Sizes, folder: Path) -> None:
    """Write the data set ``made`` and the index ``index.json`` into an existing folder."""
    target = folder / "made"
    target.mkdir()
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, row in enumerate(sizes.sequences().tolist()):
        lines += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(row)]
    (target / "made.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    items = ["item_id:token\ttitle:token_seq", *(f"i{item}\tthing number {item}" for item in range(sizes.items))]
    (target / "made.item").write_text("\n".join(items) + "\n", encoding="utf-8")
    index = {
        f"i{item}": [f"<{level}_{code}>" for level, code in zip("abcdefgh", path, strict=False)]
        for item, path in enumerate(sizes.paths().tolist())
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def write_lm(sizes: Sizes, folder: Path) -> Path:
    """Write a random Llama with a tokenizer into a new folder in ``folder`` and return it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from recbole_lcrec.instruction.tokenizer import INSTRUCTION_WORDING, train_tokenizer

    words = [f"thing number {item}" for item in range(2_000)]
    tokenizer: Any = train_tokenizer([*INSTRUCTION_WORDING, *words], sizes.words)
    config = LlamaConfig(
        vocab_size=max(sizes.words, len(tokenizer)),
        hidden_size=sizes.width,
        intermediate_size=2 * sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = LlamaForCausalLM(config)
    target = folder / "tiny-llama"
    lm.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
