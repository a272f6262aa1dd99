"""Embedding items that were not there when the index was built, in the space that its quantizer knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from recbole_lcrec.config.registry import ENCODERS
from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding.encoders import EmbeddingSettings, Encoder, Task, fitted_lsa
from recbole_lcrec.embedding.lsa import LSA
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json

_SETTINGS = "encoder.json"


@dataclass(frozen=True)
class ItemEncoder:
    """The part of what made an index's embeddings that new items can use.

    Attributes:
        settings: Options of the embeddings.
        lsa: The fitted encoder, with ``text_encoder: lsa``.
        mean: [d_text], the mean of the catalogue's text vectors; ``scale`` is the root of their total variance: with
            ``embedding: text+cf``, both sources are centred and scaled.
        n_collaborative: Columns of the collaborative part with ``text+cf``. A new item has no interactions, so it
            lies at the centre of that part.
    """

    settings: EmbeddingSettings
    lsa: LSA | None
    mean: tuple[float, ...] = ()
    scale: float = 1.0
    n_collaborative: int = 0

    @classmethod
    def of_catalogue(
        cls, texts: Sequence[str], embeddings: np.ndarray, settings: EmbeddingSettings, *, cache_dir: Path, seed: int
    ) -> ItemEncoder:
        """Return the encoder of a catalogue that was embedded with the same arguments.

        Args:
            texts: One text per item.
            embeddings: float32 [n_items, d], what ``embed_items`` returned for them.
            settings: Options of the embeddings.
            cache_dir: Folder of the caches.
            seed: Seed of the run.
        """
        uses_lsa = settings.uses_text and settings.kind == "lsa"
        fitted = fitted_lsa(texts, settings, cache_dir, seed, tell=False) if uses_lsa else None
        if settings.embedding != "text+cf" or settings.kind == "file":
            return cls(settings, fitted)
        encoder = cls(settings, fitted)
        vectors = encoder._text_vectors(texts, "cpu", show_progress=False).astype(np.float64)
        mean = vectors.mean(axis=0)
        scale = float(np.sqrt(((vectors - mean) ** 2).sum(axis=1).mean()))
        return cls(settings, fitted, tuple(mean.tolist()), scale, embeddings.shape[1] - vectors.shape[1])

    @property
    def embeds_texts(self) -> bool:
        """Whether an item's text is enough to embed it."""
        return self.settings.embeds_texts

    def embed(self, texts: Sequence[str], *, device: str = "cpu", show_progress: bool = False) -> np.ndarray:
        """Return vectors of new items' texts, float32 [n, d].

        Raises:
            UserError: If the index's embeddings were not made from text.
        """
        if not self.embeds_texts:
            made = "interactions" if not self.settings.uses_text else self.settings.text_encoder
            raise UserError(
                f"the index was built from {made}, so new items cannot be embedded from their text: give their "
                "embeddings, made in the same way as those of the index."
            )
        vectors = self._text_vectors(texts, device, show_progress)
        if self.settings.embedding != "text+cf":
            return vectors
        centred = (vectors - np.array(self.mean)) / max(self.scale, 1e-12)
        return np.concatenate([centred, np.zeros((len(texts), self.n_collaborative))], axis=1).astype(np.float32)

    def _text_vectors(self, texts: Sequence[str], device: str, show_progress: bool) -> np.ndarray:
        if self.lsa is not None:
            return self.lsa.embed(texts)
        encoder: Encoder = ENCODERS[self.settings.kind].load()
        items = [""] * len(texts)  # an encoder of texts does not use item tokens
        return encoder.compute(Task(items, texts, self.settings, 0, device, show_progress, Path()))

    def save(self, folder: Path) -> None:
        """Write the encoder into an existing folder: JSON, with the LSA next to it; an ``hf:`` model by name only."""
        about = {"mean": list(self.mean), "scale": self.scale, "n_collaborative": self.n_collaborative}
        write_json(folder / _SETTINGS, {"settings": asdict(self.settings), "lsa": self.lsa is not None, **about})
        if self.lsa is not None:
            self.lsa.save(folder)

    @classmethod
    def load(cls, folder: Path) -> ItemEncoder:
        """Load what ``save`` wrote; the loaded encoder gives the same vectors."""
        state = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        fitted = LSA.load(folder) if state.pop("lsa") else None
        settings = restored(EmbeddingSettings, state.pop("settings"))
        return cls(settings, fitted, tuple(state["mean"]), state["scale"], state["n_collaborative"])
