"""Items -> embeddings, float32 [n_items, d]: of their text, of who interacted with them, or of both.

The paper uses LLaMA's mean-pooled states of the text (Sec. III-B.1). The text encoders are in the registry; option
``text_encoder`` names one by its prefix. Option ``embedding`` may add a collaborative part, or use only that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import StageSettings
from recbole_lcrec.config.registry import ENCODERS, Component
from recbole_lcrec.embedding import collaborative, huggingface, lsa, ready_file
from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.errors import Mistakes, UserError
from recbole_lcrec.utils.files import fingerprint

logger = logging.getLogger(__name__)

_VECTORS = "embeddings.npy"


@dataclass(frozen=True)
class EmbeddingSettings(StageSettings):
    """Options of the embeddings; each is explained in properties/embedding.yaml.

    Attributes:
        own: The options that a plugin's encoder has declared.

    Raises:
        UserError: For an unknown encoder.
    """

    text_encoder: str
    lsa_dim: int
    hf_max_length: int
    hf_batch_size: int
    embedding_ids_file: str | None
    embedding: str
    cf_dim: int
    cf_window: int
    own: dict[str, Any] = field(default_factory=dict)

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        encoder = ENCODERS[self.kind].load() if self.kind in ENCODERS else None
        if encoder is None or encoder.takes_source != bool(self.source):
            forms = ", or ".join(one.load().form for one in ENCODERS.components.values())
            mistakes.add(f"text_encoder={self.text_encoder}: no such encoder. Expected {forms}.")

    @staticmethod
    def component(config: Any) -> Component:
        """Return the text encoder that a configuration names; for an unknown one lsa, which has no own options."""
        kind = str(config["text_encoder"]).partition(":")[0]
        return ENCODERS[kind if kind in ENCODERS else "lsa"]

    @property
    def uses_text(self) -> bool:
        """Whether the items' text (or a ready file) is used."""
        return "text" in self.embedding

    @property
    def embeds_texts(self) -> bool:
        """Whether items are embedded from their text, not looked up in a ready file."""
        return self.uses_text and self.kind != "file"

    @property
    def uses_sequences(self) -> bool:
        """Whether training interactions are used."""
        return "cf" in self.embedding

    @property
    def kind(self) -> str:
        """The encoder's name in the registry: the part before the colon."""
        return self.text_encoder.partition(":")[0]

    @property
    def source(self) -> str:
        """Model or file: the part after the colon."""
        return self.text_encoder.partition(":")[2]


@dataclass(frozen=True)
class Task:
    """A request to an encoder: one vector for each of the ``items``, whose ``texts`` may be empty."""

    items: Sequence[str]
    texts: Sequence[str]
    settings: EmbeddingSettings
    seed: int
    device: str
    show_progress: bool
    cache_dir: Path


@dataclass(frozen=True)
class Encoder:
    """One way to make embeddings.

    Attributes:
        form: How the option is written, for messages.
        takes_source: Whether a model or file is named after the colon.
        compute: Makes the embeddings [n_items, d].
        key: What the result depends on, apart from the texts; None if a cache would only be a copy.
    """

    form: str
    takes_source: bool
    compute: Callable[[Task], np.ndarray]
    key: Callable[[Task], list[Any]] | None


LSA = Encoder(
    form="lsa (TF-IDF and truncated SVD, offline)",
    takes_source=False,
    compute=lambda task: fitted_lsa(task.texts, task.settings, task.cache_dir, task.seed).embed(task.texts),
    key=lambda task: ["vectors", *lsa.cache_key(task.settings.lsa_dim, task.seed)],  # kept with the fitted encoder
)
HUGGING_FACE = Encoder(
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
    key=lambda task: huggingface.cache_key(task.settings.source, task.settings.hf_max_length, task.device),
)
READY_FILE = Encoder(
    form="file:<path of an .npy file>",
    takes_source=True,
    compute=lambda task: ready_file.load(
        Path(task.settings.source), task.items, ids_file=task.settings.embedding_ids_file
    ),
    key=None,
)


def embed_items(
    item_tokens: Sequence[str],
    texts: Sequence[str],
    settings: EmbeddingSettings,
    *,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
    sequences: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Return one vector per item, computed or taken from the cache.

    An item without text gets the mean vector of the others, and so the path of an average item; the mapping makes it
    unique. The same holds for an item that no training interaction connects with another, in the collaborative part.

    Args:
        item_tokens: Item tokens, in catalogue order.
        texts: One text per item; may be empty.
        settings: Options of the embeddings.
        cache_dir: Folder of the caches; the entries are ``embeddings/<key>/`` there.
        seed: Seed of the randomized SVD.
        device: Device of an ``hf:`` encoder.
        show_progress: Whether to show a bar.
        sequences: Item rows of each user's training interactions, in time order: all that the collaborative part
            reads. Ignored without that part.

    Returns:
        float32 [n_items, d], finite.

    Raises:
        UserError: For an encoder that cannot be loaded, a file of the wrong shape or content, or a collaborative part
            without sequences.
    """
    assert len(item_tokens) == len(texts), "one text per item"
    parts = []
    if settings.uses_text:
        parts.append(_of_text(Task(item_tokens, texts, settings, seed, device, show_progress, Path(cache_dir))))
    if settings.uses_sequences:
        if sequences is None:
            raise UserError(
                f"embedding={settings.embedding}: it is made from training interactions, and there are none. "
                "Pass the training sequences, or use embedding=text."
            )
        parts.append(_of_sequences(sequences, len(item_tokens), settings, seed, Path(cache_dir)))
    return parts[0] if len(parts) == 1 else joined(parts)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return vectors of several sources side by side, each centred and scaled to a total variance of 1.

    So a squared distance weighs all sources equally, whatever the length of their vectors. A source that is the same
    for all items becomes 0.

    Args:
        parts: float32 [n_items, d_i].
    """
    scaled = []
    for part in parts:
        centred = part.astype(np.float64) - part.mean(axis=0, dtype=np.float64)
        total = float((centred**2).sum(axis=1).mean())
        flat = total <= 1e-12 * float((part.astype(np.float64) ** 2).sum(axis=1).mean())
        scaled.append(np.zeros_like(centred) if flat else centred / np.sqrt(total))
    return np.concatenate(scaled, axis=1).astype(np.float32)


def _of_text(task: Task) -> np.ndarray:
    registered = ENCODERS[task.settings.kind]
    encoder: Encoder = registered.load()
    if encoder.key is None:
        return encoder.compute(task)
    parts = [task.settings.kind, list(task.texts), encoder.key(task)]
    key = fingerprint(*parts, *([registered.version] if registered.version else []))
    return _cached(task.cache_dir, key, len(task.texts), lambda: encoder.compute(task), task.settings.text_encoder)


def fitted_lsa(
    texts: Sequence[str], settings: EmbeddingSettings, cache_dir: Path, seed: int, *, tell: bool = True
) -> lsa.LSA:
    """Return the LSA encoder of a catalogue's texts, fitted now or taken from the cache.

    Args:
        texts: One per item.
        settings: Options of the embeddings.
        cache_dir: Folder of the caches.
        seed: Seed of the run.
        tell: Whether to log a cached encoder; not needed if embedding the items has logged it.
    """
    key = fingerprint("lsa", list(texts), lsa.cache_key(settings.lsa_dim, seed))
    folder = cache_dir / "embeddings" / key
    encoder, known = cached(
        folder,
        load=lsa.LSA.load,
        build=lambda: lsa.LSA.fit(texts, settings.lsa_dim, seed),
        save=lsa.LSA.save,
        what="embeddings",
    )
    if known and tell:
        logger.info("Embeddings: lsa of %d terms, from the cache (%s).", len(encoder.terms), folder)
    elif not known:
        logger.info("Embeddings: %d x %d by lsa.", len(texts), len(encoder.components))
    return encoder


def _of_sequences(
    sequences: Sequence[np.ndarray], n_items: int, settings: EmbeddingSettings, seed: int, cache_dir: Path
) -> np.ndarray:
    key = collaborative.cache_key(sequences, settings.cf_dim, settings.cf_window, seed)
    options = {"dimensions": settings.cf_dim, "window": settings.cf_window, "seed": seed}
    return _cached(
        cache_dir,
        fingerprint("cf", n_items, key),
        n_items,
        lambda: collaborative.embed(sequences, n_items, **options),
        "training interactions",
    )


def _cached(cache_dir: Path, key: str, n_items: int, compute: Callable[[], np.ndarray], source: str) -> np.ndarray:
    """Return what the cache holds under ``key``, or compute and keep it."""
    folder = cache_dir / "embeddings" / key

    def load(entry: Path) -> np.ndarray:
        vectors = np.load(entry / _VECTORS, allow_pickle=False)
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != n_items:
            raise ValueError(f"found {vectors.dtype} of shape {list(vectors.shape)}, expected {n_items} vectors")
        return vectors

    vectors, known = cached(
        folder,
        load=load,
        build=compute,
        save=lambda vectors, entry: np.save(entry / _VECTORS, vectors, allow_pickle=False),
        what="embeddings",
    )
    if known:
        logger.info("Embeddings: %d x %d, from the cache (%s).", *vectors.shape, folder)
    else:
        logger.info("Embeddings: %d x %d by %s.", *vectors.shape, source)
    return vectors
