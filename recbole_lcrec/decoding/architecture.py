"""What decoding has to know of a model's architecture."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


def base_model(lm: nn.Module) -> Any:
    """Return the transformers model, without peft's wrapper. Any, as its attributes depend on the architecture."""
    unwrap: Any = getattr(lm, "get_base_model", None)
    return lm if unwrap is None else unwrap()


def attention_kernel(lm: nn.Module) -> str | None:
    """Return the name of the attention kernel in use; None for an architecture that has no choice of kernels."""
    kernel: str | None = base_model(lm).config._attn_implementation
    return kernel


def n_layers(lm: nn.Module) -> int:
    """Return the number of layers that have keys and values."""
    return int(base_model(lm).config.get_text_config().num_hidden_layers)


def blocks_of(lm: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of a causal language model; [] if no module list matches its number of layers."""
    lists = (module for module in base_model(lm).modules() if isinstance(module, nn.ModuleList))
    return next((list(blocks) for blocks in lists if len(blocks) == n_layers(lm)), [])


def model_dtype(lm: nn.Module) -> torch.dtype:
    """Return the dtype of the hidden states, to which attention's mask is added: that of the embeddings."""
    return base_model(lm).get_input_embeddings().weight.dtype


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the attention mask that is added to the scores: 0 where ``visible`` (bool), the lowest value elsewhere.

    transformers passes a 4D mask on unchanged (masking_utils._preprocess_mask_arguments). Eager attention adds it to
    the scores, so it must be a float; the fused kernels accept that form too.
    """
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)


@contextmanager
def evaluating(lm: nn.Module) -> Iterator[None]:
    """Evaluate while the block runs; modes are restored per module, as parts of a model may be in different ones."""
    training = [module for module in lm.modules() if module.training]
    lm.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Everything:
    """The names that a function with ``**kwargs`` accepts."""

    def __contains__(self, name: object) -> bool:
        return True


def accepted_arguments(lm: nn.Module) -> set[str] | _Everything:
    """Return the names of the arguments that the model's own forward accepts, without peft's wrapper."""
    parameters = inspect.signature(base_model(lm).forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return _Everything()
    return set(parameters)


@lru_cache(maxsize=1)
def cache_name() -> str:
    """Return transformers' name for a model's keys and values, in arguments and outputs: ``cache`` since 5.24."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
