"""Item text -> embeddings, float32 [n_items, d] (Sec. III-B.1 of the paper, which uses LLaMA's mean-pooled states).

The encoders are in one table below; option ``text_encoder`` names one by its prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.embedding import huggingface, lsa, ready_file
from recbole_lcrec.errors import UserError
from recbole_lcrec.io import atomic_path, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingSettings:
    """Options of the text encoder; each is explained in properties/model/LCRec.yaml.

    Raises:
        UserError: For an unknown encoder or a number out of its range.
    """

    text_encoder: str
    lsa_dim: int
    hf_max_length: int
    hf_batch_size: int
    embedding_ids_file: str | None

    def __post_init__(self) -> None:
        encoder = ENCODERS.get(self.kind)
        if encoder is None or encoder.takes_source != bool(self.source):
            forms = ", or ".join(encoder.form for encoder in ENCODERS.values())
            raise UserError(f"text_encoder={self.text_encoder}: no such encoder. Expected {forms}.")
        for name in ("lsa_dim", "hf_max_length", "hf_batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected 1 or more, found {getattr(self, name)}.")

    @property
    def kind(self) -> str:
        """The encoder's name in the table: what stands before the colon."""
        return self.text_encoder.partition(":")[0]

    @property
    def source(self) -> str:
        """Model or file: what stands behind the colon."""
        return self.text_encoder.partition(":")[2]


@dataclass(frozen=True)
class Task:
    """What an encoder is asked for: one vector for each of the ``items``, whose ``texts`` may be empty."""

    items: Sequence[str]
    texts: Sequence[str]
    settings: EmbeddingSettings
    seed: int
    device: str
    show_progress: bool


@dataclass(frozen=True)
class Encoder:
    """One way to make embeddings.

    Attributes:
        form: How the option is written, for messages.
        takes_source: Whether a model or file follows the name.
        compute: Makes the embeddings [n_items, d].
        key: What the result depends on beside the texts; None where a cache would only be a copy.
    """

    form: str
    takes_source: bool
    compute: Callable[[Task], np.ndarray]
    key: Callable[[Task], list[Any]] | None


ENCODERS: dict[str, Encoder] = {
    "lsa": Encoder(
        form="lsa (TF-IDF and truncated SVD, offline)",
        takes_source=False,
        compute=lambda task: lsa.embed(task.texts, task.settings.lsa_dim, task.seed),
        key=lambda task: lsa.cache_key(task.settings.lsa_dim, task.seed),
    ),
    "hf": Encoder(
        form="hf:<name or local folder of a transformers model>",
        takes_source=True,
        compute=lambda task: huggingface.embed(
            task.texts,
            task.settings.source,
            max_length=task.settings.hf_max_length,
            batch_size=task.settings.hf_batch_size,
            device=task.device,
            show_progress=task.show_progress,
        ),
        key=lambda task: huggingface.cache_key(task.settings.source, task.settings.hf_max_length),
    ),
    "file": Encoder(
        form="file:<path of an .npy file>",
        takes_source=True,
        compute=lambda task: ready_file.load(
            Path(task.settings.source), task.items, ids_file=task.settings.embedding_ids_file
        ),
        key=None,
    ),
}


def embed_items(
    item_tokens: Sequence[str],
    texts: Sequence[str],
    settings: EmbeddingSettings,
    *,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
) -> np.ndarray:
    """Return one vector per item, computed or taken from the cache.

    An item without text gets the mean vector of the others, and so the path of an average item; the mapping makes it
    unique.

    Args:
        item_tokens: Item tokens, in catalogue order.
        texts: One text per item; may be empty.
        settings: Options of the text encoder.
        cache_dir: Folder of the caches; the file is ``embeddings/<key>.npy`` there.
        seed: Seed of the randomized SVD.
        device: Device of an ``hf:`` encoder.
        show_progress: Whether to show a bar.

    Returns:
        float32 [n_items, d], finite.

    Raises:
        UserError: For an encoder that cannot be loaded or a file of the wrong shape or content.
    """
    assert len(item_tokens) == len(texts), "one text per item"
    encoder = ENCODERS[settings.kind]
    task = Task(item_tokens, texts, settings, seed, device, show_progress)
    if encoder.key is None:
        return encoder.compute(task)
    path = Path(cache_dir) / "embeddings" / f"{fingerprint(settings.kind, list(texts), encoder.key(task))}.npy"
    vectors = _read(path, len(texts))
    if vectors is not None:
        logger.info("Embeddings: %d x %d, from the cache (%s).", *vectors.shape, path)
        return vectors
    vectors = encoder.compute(task)
    with atomic_path(path) as temporary:
        np.save(temporary, vectors, allow_pickle=False)
    logger.info("Embeddings: %d x %d by %s.", *vectors.shape, settings.text_encoder)
    return vectors


def _read(path: Path, n_items: int) -> np.ndarray | None:
    """Return what an earlier run kept, or None when there is nothing or it is broken."""
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
        if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == n_items:
            return vectors
    except (ValueError, OSError, EOFError):
        pass
    logger.warning("%s cannot be read; the embeddings are computed anew.", path)
    return None
