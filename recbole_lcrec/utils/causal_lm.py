"""Causal language models of transformers: other models are refused, by numbers and before long work.

A name says little: transformers loads BERT as a "causal LM" that reads the token it is to predict, the decoder of an
encoder-decoder without what it was trained to read, and a body without its head with a random one. All of them train
without an error, to results that mean nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.hub import (
    adapter_base,
    load_pretrained,
    load_weights,
    merging_advice,
    place_of,
    without_report,
)
from recbole_lcrec.utils.lm_config import number_of

PROBE_LENGTH, PROBE_KEPT = 12, 6
"""Length of the causality probe in tokens, and how many leading tokens its two rows share."""

LEAST_WORDS = 20
"""Size of the smallest vocabulary that is accepted: the digits and a few letters."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")

TOLERANCE = 1e-4
"""Largest change in earlier logits, relative to their spread, that counts as rounding."""


def causal_config(source: str, option: str, layers: int | None = None) -> Any:
    """Return the configuration of a causal LM, or of the one that an adapter belongs to.

    Args:
        source: Name on the hub or local folder.
        option: What the user wrote, for messages.
        layers: How many of its first layers to keep; None for all.

    Raises:
        UserError: If there is none, its model is not a causal LM in transformers, or it has fewer layers.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    base = adapter_base(source, option)
    config = load_pretrained(AutoConfig, source if base is None else _base_of(base, option), option)
    kind = config.model_type
    if config.is_encoder_decoder:
        raise UserError(
            f"{option}: expected a causal (decoder-only) language model, found an encoder-decoder of type {kind!r}. "
            "P5CID takes T5 checkpoints; the other models take Llama, Qwen, GPT-2 and similar ones."
        )
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(
            f"{option}: expected a causal language model, found a model of type {kind!r}, which writes no text. Use "
            "one like Llama, Qwen or GPT-2."
        )
    return config if layers is None else _shortened(config, layers, option, is_adapter=base is not None)


def _shortened(config: Any, layers: int, option: str, *, is_adapter: bool) -> Any:
    """Return a model's configuration with its first layers only; per-layer lists are cut, too."""
    if is_adapter:
        raise UserError(f"base_layers={layers}: {option} is an adapter, made for all layers. Merge it first.")
    text = config.get_text_config()
    whole = number_of(config, "num_hidden_layers")
    if not isinstance(whole, int) or layers > whole:
        raise UserError(f"base_layers={layers}: {option} has {whole} layers. Give at most as many, or leave it out.")
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == whole and name != "architectures":
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return config


def causal_tokenizer(source: str, option: str) -> Any:
    """Return the tokenizer of a causal LM; for an adapter without one, its base model's.

    Raises:
        UserError: If there is none, or its vocabulary is empty.
    """
    from transformers import AutoTokenizer

    base = adapter_base(source, option)
    if base is not None and not any((Path(source).expanduser() / name).is_file() for name in _TOKENIZER_FILES):
        source = _base_of(base, option)
    tokenizer = load_pretrained(AutoTokenizer, source, option)
    # without its files, transformers builds the architecture's kind of tokenizer with an empty vocabulary
    reads = bool(tokenizer("the first words of a text", add_special_tokens=False).input_ids)
    if not reads or len(tokenizer) < LEAST_WORDS:
        raise UserError(
            f"{option}: the vocabulary of its tokenizer has {len(tokenizer)} entries: files of the tokenizer are "
            "missing or broken. Bring tokenizer.json and tokenizer_config.json into the folder."
        )
    return tokenizer


def load_causal_lm(source: str, option: str, dtype: Any = torch.float32, layers: int | None = None) -> Any:
    """Return a causal LM in evaluation mode, an adapter merged into its base.

    Args:
        source: Name on the hub or local folder of a model or of an adapter.
        option: What the user wrote, for messages.
        dtype: Type of the weights; "auto" keeps the one that they were saved in.
        layers: How many of its first layers are loaded; None for all.

    Raises:
        UserError: If it cannot be loaded whole, or later tokens change its output at earlier ones.
    """
    from transformers import AutoModelForCausalLM

    config = causal_config(source, option, layers)
    base = adapter_base(source, option)
    if layers is not None:
        with without_report():  # of the later layers' weights, which are not used
            lm = load_weights(AutoModelForCausalLM, source, option, dtype=dtype, config=config)
    elif base is None:
        lm = load_weights(AutoModelForCausalLM, source, option, dtype=dtype)
    else:
        lm = _merged(load_weights(AutoModelForCausalLM, base, option, dtype=dtype), source, base, option)
    lm.eval()
    check_causal(lm, option)
    return lm


@torch.no_grad()
def check_causal(lm: nn.Module, option: str) -> None:
    """Refuse a model whose logits at a position depend on later tokens, or are not finite.

    Two rows begin alike and then differ: up to that point, their logits must agree to within rounding. The model must
    be in evaluation mode.

    Raises:
        UserError: Naming ``option``.
    """
    model: Any = lm
    embeddings = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    probe = torch.randint(embeddings.shape[0], (2, PROBE_LENGTH), generator=generator)
    probe[1, :PROBE_KEPT] = probe[0, :PROBE_KEPT]
    logits = lm(input_ids=probe.to(embeddings.device), use_cache=False).logits[:, :PROBE_KEPT].float()
    if not torch.isfinite(logits).all():
        raise UserError(f"{option}: its logits are NaN or infinite. Use another model, or whole weights.")
    spread = (logits[0] - logits[0].mean(dim=-1, keepdim=True)).norm(dim=-1)
    change = (logits[1] - logits[0]).norm(dim=-1) / spread.clamp(min=torch.finfo(torch.float32).tiny)
    tolerance = max(TOLERANCE, 8 * torch.finfo(embeddings.dtype).eps)
    if change.max() > tolerance:
        raise UserError(
            f"{option}: {type(lm).__name__} attends to later tokens: its output at a token changes by "
            f"{change.max():.0e} with the tokens after it, so it would learn to copy what it should predict. Use a "
            "causal (decoder-only) language model."
        )


def _base_of(base: str, option: str) -> str:
    """Return the base model of an adapter, if it exists and is not itself an adapter."""
    try:
        name, _ = place_of(base, option)
        if adapter_base(base, option) is not None:
            raise UserError("an adapter of an adapter")
    except UserError as error:
        raise UserError(
            f"{option}: it is an adapter of {base}, which is not a model. {merging_advice(base)}"
        ) from error
    return name


def _merged(lm: Any, adapter: str, base: str, option: str) -> Any:
    """Return ``lm`` with the weights of an adapter added to its own."""
    from peft import PeftModel

    name, local = place_of(adapter, option)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*adapter keys.*")  # some are missing or left over
            wrapped = PeftModel.from_pretrained(lm, name, local_files_only=local)
            kind = wrapped.peft_config["default"]
            if kind.is_prompt_learning or kind.task_type not in (None, "CAUSAL_LM"):
                raise ValueError(f"{kind.peft_type} for {kind.task_type} is not added to weights")
            return wrapped.merge_and_unload().requires_grad_(True)  # peft freezes the base
    except Exception as error:  # like transformers, peft raises many kinds
        raise UserError(
            f"{option}: this adapter of {base} cannot be merged into it ({reason_of(error)}). {merging_advice(base)}"
        ) from error
