"""How many prompts are decoded together, and which: similar lengths, and no more than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from recbole_lcrec.decoding.architecture import base_model, model_dtype, n_layers
from recbole_lcrec.utils.lm_config import number_of

CPU_MEMORY = 2**30
"""Bytes that decoding may use on a CPU."""

CPU_STATES, CPU_TOKENS = 2**20, 1024
"""Bytes of a layer's states per thread, about what stays in a core's cache: larger batches are slower, as every pass
over them goes to memory. But no fewer tokens per thread than this, to spread the cost of reading the weights."""

GPU_SHARE = 0.5
"""Share of a GPU's free memory that decoding may use."""

MAX_PROMPTS = 512
"""Most prompts decoded together."""


def similar_lengths(lengths: Sequence[int], limit: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the prompts to run together, int64 [n]: sorted by length, cut into equal parts.

    Args:
        lengths: Tokens of each prompt.
        limit: Most prompts of a batch.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    yield from np.array_split(order, -(-len(order) // limit))


def prompts_at_once(lm: nn.Module, length: int, beam_tokens: int, more: int = 0) -> int:
    """Return how many prompts fit into memory together, by a generous estimate of their size; 1 to MAX_PROMPTS.

    Args:
        lm: The language model.
        length: Tokens of the longest prompt.
        beam_tokens: Tokens that all beams of a prompt append.
        more: Bytes needed per prompt in addition to the language model's.
    """
    config = base_model(lm).config.get_text_config()
    hidden = config.hidden_size
    inner = number_of(config, "intermediate_size") or 4 * hidden
    size = torch.finfo(model_dtype(lm)).bits // 8
    tokens = length + beam_tokens
    # keys and values of all layers (twice while they are extended), the widest layer's states, the attention weights
    per_prompt = size * (4 * n_layers(lm) * hidden * tokens + (6 * hidden + 3 * inner) * length)
    heads = number_of(config, "num_attention_heads") or 1  # state-space models have none
    per_prompt += 4 * heads * max(length * length, beam_tokens * tokens) + more
    device = base_model(lm).get_input_embeddings().weight.device
    if device.type == "cuda":
        return int(min(max(GPU_SHARE * torch.cuda.mem_get_info(device)[0] // per_prompt, 1), MAX_PROMPTS))
    in_cache = max(CPU_STATES // (size * hidden), CPU_TOKENS) * torch.get_num_threads() // length
    return int(min(max(min(CPU_MEMORY // per_prompt, in_cache), 1), MAX_PROMPTS))


def run_halving(run: Callable[[np.ndarray], None], numbers: np.ndarray) -> None:
    """Run a batch; if the device's memory is too small for it, run its halves.

    Args:
        run: Called with the numbers of the prompts to process.
        numbers: Numbers of prompts, int64 [n].

    Raises:
        torch.OutOfMemoryError: If a single prompt does not fit.
    """
    try:
        run(numbers)
    except torch.OutOfMemoryError:
        if len(numbers) == 1:
            raise
        torch.cuda.empty_cache()
        for half in np.array_split(numbers, 2):
            run_halving(run, half)
