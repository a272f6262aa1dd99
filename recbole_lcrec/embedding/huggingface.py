"""Any transformers encoder or language model as text encoder: masked mean pooling of its last hidden states."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.gguf import gguf_file
from recbole_lcrec.utils.hub import load_pretrained, load_weights, revision_of
from recbole_lcrec.utils.lm_config import number_of
from recbole_lcrec.utils.progress import progress

logger = logging.getLogger(__name__)


def cache_key(source: str, max_length: int, device: str) -> list[Any]:
    """Return what a model's numbers depend on, apart from the texts, as far as known before it is loaded.

    Args:
        source: Name on the hub, keyed with its revision, or local folder, keyed with its files' names, sizes and
            times.
        max_length: Most tokens that are read, or written.
        device: Where the model runs: kinds of devices round differently, and use different precisions.
    """
    versions = [metadata.version(package) for package in ("transformers", "torch")]
    kind = [versions, device.partition(":")[0], precision(device)]
    files = files_of_model(source)
    if not files:
        return [source, max_length, [revision_of(source)], *kind]
    return [str(Path(source).expanduser().resolve()), max_length, files, *kind]


def files_of_model(source: str) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the files of a local model; [] for one on the hub.

    Raises:
        UserError: For a GGUF file that does not exist, or a packaged model that is not installed.
    """
    folder, file = Path(source).expanduser(), gguf_file(source, f"model {source}")
    files = [file] if file is not None else sorted(folder.rglob("*")) if folder.is_dir() else []
    facts = [(path, path.stat()) for path in files if path.is_file()]
    return [(str(path.relative_to(folder) if file is None else path), s.st_size, s.st_mtime_ns) for path, s in facts]


def precision(device: str) -> str:
    """Return the dtype in which weights are loaded; "auto" is the one in which they were saved."""
    return "float32" if device == "cpu" else "auto"  # half precision is slow on a CPU


def embed(
    texts: Sequence[str], source: str, *, max_length: int, batch_size: int, device: str, show_progress: bool
) -> np.ndarray:
    """Return the mean of each text's last hidden states, without padding.

    Args:
        texts: One text per item. An empty one gets the mean vector of the others.
        source: Name on the hub or local folder of a transformers model.
        max_length: Most tokens of a text that are read.
        batch_size: Texts per forward pass; texts of similar length go together.
        device: Where to compute.
        show_progress: Whether to show a bar.

    Returns:
        float32 [n_items, d].

    Raises:
        UserError: If the model cannot be loaded or gives numbers that are not finite.
    """
    tokenizer, model = _load(source, device)
    max_length = _supported_length(tokenizer, model, max_length)
    rows = [row for row, text in enumerate(texts) if text.strip()]
    rows.sort(key=lambda row: (-len(texts[row]), row))  # longest first: what does not fit in memory fails at once
    vectors = np.zeros((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)
    with progress(total=len(rows), description="Embed items", show=show_progress, unit="item") as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            vectors[batch] = _pooled(tokenizer, model, [texts[row] for row in batch], max_length)
            bar.update(len(batch))
    if not np.isfinite(vectors).all():
        raise UserError(f"text_encoder=hf:{source}: the model gives NaN or infinity. Use another model.")
    empty = np.setdiff1d(np.arange(len(texts)), rows)
    if rows:
        vectors[empty] = vectors[rows].mean(axis=0)
    return vectors


def _pooled(tokenizer: Any, model: Any, texts: list[str], max_length: int) -> np.ndarray:
    """Return masked mean-pooled states of a batch of texts, float32 [B, d]."""
    import torch

    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt", split_special_tokens=True
    )  # a title that reads "</s>" is words
    inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
    return pooled.cpu().numpy()


def _load(source: str, device: str) -> tuple[Any, Any]:
    """Return tokenizer and model, in evaluation mode on ``device``.

    Raises:
        UserError: Naming the option, if either cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    option = f"text_encoder=hf:{source}"
    # the pooler, which many checkpoints lack, is not used
    model = load_weights(AutoModel, source, option, may_lack=("pooler",), dtype=precision(device))
    tokenizer = load_pretrained(AutoTokenizer, source, option)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if tokenizer.pad_token is None:  # decoder-only models often have none; the mask hides the substitute
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"  # positions of a causal model then do not depend on the batch
    return tokenizer, model.to(device).eval()


def _supported_length(tokenizer: Any, model: Any, max_length: int) -> int:
    """Return ``max_length``, or what the model can read if that is less."""
    positions = number_of(model.config, "max_position_embeddings") or max_length
    supported = min(positions, tokenizer.model_max_length)
    if max_length > supported:
        logger.warning("hf_max_length=%d: the model reads only %d tokens.", max_length, supported)
    return min(max_length, supported)
