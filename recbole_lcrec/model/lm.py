"""The language model: a small Llama from scratch, or any causal LM of transformers, fully tuned or with LoRA."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from recbole_lcrec.config import StageSettings
from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.instruction.tokenizer import load_tokenizer
from recbole_lcrec.utils.causal_lm import causal_config, load_causal_lm
from recbole_lcrec.utils.errors import Mistakes, UserError, reason_of
from recbole_lcrec.utils.files import fingerprint, write_json
from recbole_lcrec.utils.hub import check_memory, saved_architecture, write_architecture
from recbole_lcrec.utils.lm_config import number_of

logger = logging.getLogger(__name__)

MAX_PATH = 8
"""Most levels that an index has, hence most tokens that decoding appends to a prompt."""

_BASE = "base_model.json"
"""File next to a run's architecture that says which weights an adapter belongs to."""
_SAMPLED = 4096  # values read per tensor: training moves all of them


@dataclass(frozen=True)
class LMSettings(StageSettings):
    """Options of the language model; each is explained in properties/language_model.yaml."""

    base_model: str | None
    base_layers: int | None
    tuning: str
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lm_hidden_size: int
    lm_layers: int
    lm_heads: int
    lm_intermediate_size: int
    lm_dropout: float
    lm_layer_dropout: float
    attention: str
    max_length: int
    precision: str

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        mistakes.expect(
            not (self.lm_layer_dropout and self.base_model),
            "lm_layer_dropout is for the LM from scratch; a base_model keeps the dropout of its own.",
        )
        mistakes.expect(
            self.base_layers is None or bool(self.base_model),
            f"base_layers={self.base_layers} takes the first layers of a base_model. Give one, or set lm_layers.",
        )
        mistakes.expect(
            self.tuning != "lora" or bool(self.base_model),
            "tuning: lora adapts a pretrained model; give one with base_model, or use tuning: full.",
        )
        mistakes.expect(
            self.lm_hidden_size % (2 * self.lm_heads) == 0,
            f"lm_heads={self.lm_heads}: expected a number whose double divides lm_hidden_size={self.lm_hidden_size}.",
        )
        if not self.base_model and not mistakes.failed:
            with mistakes.caught():
                check_memory(self.parameters, f"lm_hidden_size={self.lm_hidden_size}, lm_layers={self.lm_layers}")

    @property
    def parameters(self) -> int:
        """Weights of the layers of the LM from scratch."""
        return self.lm_layers * self.lm_hidden_size * (4 * self.lm_hidden_size + 3 * self.lm_intermediate_size)


def build_lm(settings: LMSettings, tokenizer: Any, index_tokens: Sequence[str], saved: Path | None = None) -> Any:
    """Build the language model, its vocabulary extended to the tokenizer's.

    Args:
        settings: Options of the language model.
        tokenizer: The tokenizer, index tokens included.
        index_tokens: The index tokens; their rows train in full under LoRA. Empty for models without an index.
        saved: Folder of a finished run: its architecture is used and weights are left to the checkpoint. Under LoRA
            the base model's weights are loaded all the same, since the checkpoint holds the adapter only.

    Returns:
        A transformers causal LM (wrapped by peft under LoRA) in float32.
    """
    if settings.tuning == "lora":
        lm = _pretrained(settings, tokenizer, saved)
        use_attention(lm, settings.attention)
        return _with_lora(lm, settings, tokenizer.convert_tokens_to_ids(list(index_tokens)))
    if saved:
        lm = saved_architecture(AutoModelForCausalLM, saved)
        if lm.get_input_embeddings().num_embeddings < len(tokenizer):
            raise UserError(
                f"{saved}: lm has fewer tokens than tokenizer: they are of different runs. Train it again."
            )
    else:
        lm = _pretrained(settings, tokenizer) if settings.base_model else _from_scratch(settings, tokenizer)
    use_attention(lm, settings.attention)
    if settings.lm_layer_dropout:
        _drop_in_layers(lm, settings.lm_layer_dropout)
    return lm


def trial_lm(settings: LMSettings) -> Any:
    """Return the language model as far as it can be built before there is an index, to see whether it will work.

    A pretrained one gets a single new token; one from scratch has one layer and a small vocabulary.

    Raises:
        UserError: For what ``build_lm`` would refuse.
    """
    if settings.base_model:
        option = f"base_model={settings.base_model}"
        load_tokenizer(settings.base_model)
        check_length(causal_config(settings.base_model, option, settings.base_layers), settings)
        lm = load_causal_lm(settings.base_model, option, layers=settings.base_layers)
        size = lm.get_input_embeddings().num_embeddings
        extend_vocabulary(lm, size + 1, option)
        use_attention(lm, settings.attention)
        return _with_lora(lm, settings, [size]) if settings.tuning == "lora" else lm
    lm = _llama(replace(settings, lm_layers=1), 300)
    use_attention(lm, settings.attention)
    return lm


def _drop_in_layers(lm: Any, probability: float) -> None:
    """Apply dropout to what attention and feed-forward of every layer add, in training mode, as in SASRec.

    Llama's own forward has none; its layers stay as they are.
    """

    def drop(module: torch.nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # attention: (added, weights)
            return torch.nn.functional.dropout(output[0], probability, module.training), *output[1:]
        return torch.nn.functional.dropout(output, probability, module.training)

    for layer in lm.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)


def use_attention(lm: Any, attention: str) -> None:
    """Choose the attention kernel; an architecture without sdpa keeps its own. ``auto`` begins with sdpa.

    Raises:
        UserError: If the kernel is not available.
    """
    try:
        lm.set_attn_implementation("sdpa" if attention == "auto" else attention)
    except (ImportError, ValueError) as error:
        if attention in ("sdpa", "auto"):
            logger.info("%s has no sdpa attention: eager is used.", type(lm).__name__)
            return
        raise UserError(f"attention={attention}: {reason_of(error)}. Use sdpa.") from error


def _from_scratch(settings: LMSettings, tokenizer: Any) -> Any:
    return _llama(
        settings,
        len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _llama(settings: LMSettings, vocab_size: int, **token_ids: Any) -> Any:
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=settings.lm_hidden_size,
        intermediate_size=settings.lm_intermediate_size,
        num_hidden_layers=settings.lm_layers,
        num_attention_heads=settings.lm_heads,
        num_key_value_heads=settings.lm_heads,
        max_position_embeddings=settings.max_length + 16,
        tie_word_embeddings=True,
        **token_ids,
    )
    return LlamaForCausalLM(config)


def _pretrained(settings: LMSettings, tokenizer: Any, saved: Path | None = None) -> Any:
    assert settings.base_model
    option = f"base_model={settings.base_model}"
    lm = load_causal_lm(settings.base_model, option, layers=settings.base_layers)
    if settings.tuning == "lora":
        lm.base_weights = _name_of_weights(lm)
        if saved:
            _check_same_base(lm.base_weights, saved, option)
    check_length(lm.config, settings)
    extend_vocabulary(lm, len(tokenizer), option)
    return lm.train()


def _name_of_weights(lm: Any) -> str:
    """Return what tells the weights of one model from those of another: a hash of some values of each tensor."""
    tensors = [tensor.detach().reshape(-1) for tensor in lm.state_dict().values()]
    some = [tensor[:: max(1, len(tensor) // _SAMPLED)].float().cpu().numpy() for tensor in tensors]
    # sorted, as the names and the order of the tensors depend on the version of transformers
    return fingerprint(sorted(fingerprint(len(whole), values) for whole, values in zip(tensors, some, strict=True)))


def _check_same_base(found: str, saved: Path, option: str) -> None:
    """Refuse a base model other than the one that a saved run adapts; runs of earlier versions do not record it.

    Raises:
        UserError: Naming ``option``.
    """
    path = saved / "lm" / _BASE
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))["weights"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}). Train the run again.") from error
    if found != expected:
        raise UserError(
            f"{option}: its weights are not those that the adapter in {saved} was trained on. Restore the original "
            "model, or set base_model to its location."
        )


def save_architecture(lm: Any, folder: Path) -> None:
    """Write what ``build_lm`` needs of a trained model except its weights: architecture, and an adapter's base."""
    inner = base_model(lm)
    write_architecture(inner.config, folder)
    if inner is not lm:  # wrapped by peft: the checkpoint holds the adapter only
        write_json(folder / _BASE, {"weights": inner.base_weights})


def check_length(config: Any, settings: LMSettings) -> None:
    """Refuse a ``max_length`` beyond the base model's positions.

    Args:
        config: The base model's configuration.
        settings: Options of the language model.

    Raises:
        UserError: Naming ``max_length``.
    """
    limit = number_of(config, "max_position_embeddings")
    if not limit or limit < 0:  # none, and XLNet's -1: any length
        return
    limit -= MAX_PATH  # beams extend a prompt that fills max_length
    if limit < settings.max_length:
        raise UserError(
            f"max_length={settings.max_length}: base_model={settings.base_model} takes at most {limit} tokens. "
            f"Set max_length to {limit} or less."
        )


def extend_vocabulary(lm: Any, size: int, option: str) -> None:
    """Give a pretrained model rows for ``size`` tokens, if it has fewer.

    Raises:
        UserError: Naming ``option``, for an architecture whose embeddings cannot grow.
    """
    if lm.get_input_embeddings().num_embeddings >= size:
        return
    try:
        lm.resize_token_embeddings(size, mean_resizing=False)
    except Exception as error:  # each architecture fails at this in its own way
        raise UserError(
            f"{option}: the vocabulary of {type(lm).__name__} cannot be extended ({reason_of(error)}), but the item "
            "index needs tokens of its own. Use another model."
        ) from error


def _with_lora(lm: Any, settings: LMSettings, new_rows: list[int]) -> Any:
    """Wrap ``lm`` with LoRA on all linear layers; the rows of the index tokens train in full and are saved too."""
    from peft import LoraConfig, get_peft_model

    rows = {_name_of(lm, lm.get_input_embeddings()): new_rows}
    if lm.get_output_embeddings().weight is not lm.get_input_embeddings().weight:
        rows[_name_of(lm, lm.get_output_embeddings())] = new_rows
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        trainable_token_indices=rows if new_rows else None,
        fan_in_fan_out=lm.config.model_type == "gpt2",
    )
    adapted = get_peft_model(lm, config)
    if settings.precision == "bf16_weights":
        store_frozen_in_half(adapted)
    return adapted


def store_frozen_in_half(lm: Any) -> bool:
    """Store the weights that are not trained, and so in no checkpoint, in bfloat16; return whether there are any."""
    frozen = [weight for weight in lm.parameters() if not weight.requires_grad and weight.is_floating_point()]
    for weight in frozen:
        weight.data = weight.data.to(torch.bfloat16)
    return bool(frozen)


def _name_of(lm: Any, module: Any) -> str:
    return next(name for name, candidate in lm.named_modules() if candidate is module)
