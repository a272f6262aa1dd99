"""Small stand-ins that several tests share: a catalogue, tokenizers, checkpoints, and data sets on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.index.catalogue import path_ids
from recbole_lcrec.instruction.prompt_settings import InstructionSettings
from recbole_lcrec.instruction.prompts import PromptBuilder
from recbole_lcrec.instruction.tokenizer import add_index_tokens, index_token_ids, train_tokenizer

TITLES = ["Red saw", "Blue hammer, large", "", 'The "Best" Nail (50-pack)', "Amélie 天気", "x"]
DESCRIPTIONS = ["cuts wood", "", "no title here", "sharp. pointy. steel & more", "über film", "one"]

WORDING = ["The quick brown fox jumps over the lazy dog. What is the index? Give: title, description."]


def catalogue_text() -> ItemText:
    items = tuple(f"i{n}" for n in range(len(TITLES)))
    return ItemText(items, "title", ("description",), tuple(TITLES), tuple(DESCRIPTIONS))


def catalogue_index(levels: tuple[int, ...] = (4, 4, 4, 4)) -> ItemIndex:
    codes = np.random.default_rng(0).permutation(int(np.prod(levels)))[: len(TITLES)]
    return ItemIndex(tuple(f"i{n}" for n in range(len(TITLES))), np.stack(np.unravel_index(codes, levels), 1), levels)


def settings(**changes: Any) -> InstructionSettings:
    options: dict[str, Any] = {
        "tasks": ["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"],
        "task_samples": None,
        "task_weights": None,
        "history_loss_weight": 0.0,
        "history_windows": False,
        "nest_histories": False,
        "history_separator": ", ",
        "max_text_words": 10,
        "max_length": 400,
        "history_input": "tokens",
        **changes,
    }
    return InstructionSettings(**options)


def make_tokenizer(kind: str) -> Any:
    """Return a tokenizer of its own of an architecture's kind, trained on next to nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "ours":
        return train_tokenizer([*TITLES, *DESCRIPTIONS], 400)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if kind == "llama" else None))
    if kind == "llama":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Metaspace()
        special, alphabet = ["<unk>", "<s>", "</s>"], sorted(set("".join([*TITLES, *DESCRIPTIONS, *WORDING])))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special, alphabet = ["<|endoftext|>"], sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDING * 5 + TITLES + DESCRIPTIONS, trainer)
    if kind == "llama":
        begin = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def make_builder(kind: str = "ours", **changes: Any) -> PromptBuilder:
    tokenizer, index = make_tokenizer(kind), catalogue_index()
    add_index_tokens(tokenizer, index.index_tokens())
    return PromptBuilder(
        tokenizer,
        path_ids(index, index_token_ids(tokenizer, index), index.items),
        catalogue_text(),
        settings(**changes),
    )


def save_checkpoint(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a small randomly initialised model with a tokenizer of its own, as one would find it on a hub."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    tokenizer = make_tokenizer(kind)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape, **common, tie_word_embeddings=False))
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape, **common, num_key_value_heads=2, tie_word_embeddings=True))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=32, n_layer=2, n_head=4))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_dataset(
    folder: Path, name: str = "toy", *, users: int = 40, items: int = 30, text: bool = True, seed: int = 0
) -> Path:
    """Write a data set in which an item is mostly followed by the next one; return the parent folder."""
    rng = np.random.default_rng(seed)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(users):
        item = int(rng.integers(items))
        for time in range(int(rng.integers(4, 12))):
            lines.append(f"u{user}\ti{item}\t{time}")
            item = (item + 1) % items if rng.random() < 0.9 else int(rng.integers(items))
    (target / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if text:
        lines = ["item_id:token\ttitle:token_seq\tdescription:token_seq"]
        lines += [f"i{n}\tgadget {n // 5} number {n}\tgroup {n // 5} colour {n % 5}" for n in range(items)]
        (target / f"{name}.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


TINY: dict[str, Any] = {
    "recipe": "paper",
    "show_progress": False,
    "use_gpu": False,
    "epochs": 2,
    "eval_step": 1,
    "train_batch_size": 16,
    "task_samples": {
        "seqrec": 32,
        "item2index": 16,
        "index2item": 8,
        "fusionseqrec": 8,
        "itemsearch": 8,
        "preferenceobtain": 8,
    },
    "lm_hidden_size": 16,
    "lm_intermediate_size": 32,
    "lm_layers": 1,
    "lm_heads": 2,
    "lm_dropout": 0.0,
    "precision": "fp32",
    "attention": "sdpa",
    "vocab_size": 300,
    "codebook_size": 8,
    "num_levels": 3,
    "latent_dim": 8,
    "rqvae_layers": [16],
    "rqvae_epochs": 5,
    "lsa_dim": 8,
}
"""Options that make LCRec run in seconds, in the paper's formulation."""
WHOLE_HISTORY: dict[str, Any] = {"history_loss_weight": 1.0, "history_windows": True, "history_separator": ""}
"""The loss on the items of the history, too."""
