"""The language model of a run as transformers knows it: without adapters around it and without ItemInputs inside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.model.item_inputs import ItemInputs
from recbole_lcrec.utils.errors import UserError

ADAPTER = "adapter"
"""Folder of LoRA's weights, next to those of the base model."""


@torch.no_grad()
def save_weights(lm: Any, folder: Path, generation: Any, *, beside: bool) -> Any:
    """Write a language model so that ``from_pretrained`` loads it; return it as written. ``lm`` is consumed.

    Args:
        lm: A causal LM or T5 of transformers; it may be wrapped by peft, and its inputs may be `ItemInputs`.
        folder: Where to write it.
        generation: How ``generate`` searches; a base model's own settings may sample, or penalise repetitions.
        beside: Whether adapters go into a folder of their own instead of into the weights.

    Raises:
        UserError: For inputs or a head that plain tables of embeddings cannot represent.
    """
    if base_model(lm) is not lm:
        lm = _base_beside_adapter(lm, folder / ADAPTER) if beside else lm.merge_and_unload()
    inputs = lm.get_input_embeddings()
    if isinstance(inputs, ItemInputs):
        lm = _with_item_tokens(lm, inputs)
    lm.generation_config = generation
    lm.save_pretrained(folder)
    return lm


def _base_beside_adapter(lm: Any, folder: Path) -> Any:
    """Write only LoRA's matrices to ``folder`` and return the base model, which has the rows of the index tokens.

    These rows are new in the base model anyway; with them in its table, any reader of peft's format can load the
    adapter, even one that supports only linear layers.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.other import TrainableTokensWrapper
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(lm, save_embedding_layers=False)
    config = copy.deepcopy(lm.peft_config["default"])
    config.trainable_token_indices, config.base_model_name_or_path, config.inference_mode = None, None, True
    folder.mkdir()
    config.save_pretrained(folder)
    matrices = {name: weight.cpu().contiguous() for name, weight in state.items() if "lora_" in name}
    save_file(matrices, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    for module in list(lm.modules()):
        if isinstance(module, TrainableTokensWrapper):
            module.token_adapter.merge()
    return lm.unload()


def _with_item_tokens(lm: Any, inputs: ItemInputs) -> Any:
    """Return the model with one more token per item, whose vector is its row in both tables.

    As inputs, the rows stand for the items of a history. As outputs, their logits are the products of a state with
    the items' vectors, by which whole items are scored. The tables of inputs and outputs are separate from now on.
    """
    vectors, head = inputs.vectors(), lm.get_output_embeddings()
    if type(head) is not nn.Linear or head.in_features != vectors.shape[1]:
        raise UserError(
            f"--export: the head of {type(lm).__name__} is not a linear layer on states as wide as item vectors, so "
            "items cannot become its tokens. Train with history_input=tokens for an export."
        )
    n_words = head.out_features
    config = copy.deepcopy(lm.config)
    config.tie_word_embeddings = False
    config.get_text_config().vocab_size = n_words + len(vectors)
    plain = type(lm)(config)
    own = {id(weight) for weight in (*inputs.parameters(), *head.parameters())}
    rest = {name: weight for name, weight in lm.state_dict(keep_vars=True).items() if id(weight) not in own}
    new_inputs, new_head = plain.get_input_embeddings(), plain.get_output_embeddings()
    tables = {id(weight) for weight in (*new_inputs.parameters(), *new_head.parameters())}
    missing = plain.load_state_dict(rest, strict=False).missing_keys
    assert all(id(plain.get_parameter(name)) in tables for name in missing), missing
    new_inputs.weight.copy_(torch.cat([inputs.weight, vectors / _scale(inputs.tokens)]))
    new_head.weight.copy_(torch.cat([head.weight, vectors]))
    if head.bias is not None:
        new_head.bias.copy_(torch.cat([head.bias, head.bias.new_zeros(len(vectors))]))
    return plain


def _scale(tokens: Any) -> float:
    """Return the factor by which a table of embeddings scales its rows (as in Gemma 3).

    Raises:
        UserError: If it does something else with them.
    """
    if type(tokens) is nn.Embedding:
        return 1.0
    rows = torch.arange(min(8, len(tokens.weight)), device=tokens.weight.device)
    scale = float((tokens(rows) * tokens.weight[rows]).sum() / tokens.weight[rows].square().sum())
    if not torch.allclose(tokens(rows), scale * tokens.weight[rows], rtol=1e-4, atol=1e-6):
        raise UserError(
            f"--export: {type(tokens).__name__} does more with embeddings than look them up, so the vectors of "
            "items cannot become its rows. Train with history_input=tokens for an export."
        )
    return scale
