"""The items' embeddings of an experiment: for an item index, or for models that read them as they are.

Both use this module, so that models of either kind read the same vectors, from the same cache, when compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.data.stages import StagedDataset
from recbole_lcrec.data.text import ItemText, ItemTextSettings, load_item_text
from recbole_lcrec.embedding.encoders import EmbeddingSettings, embed_items
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_path
from recbole_lcrec.utils.run_files import EMBEDDINGS
from recbole_lcrec.utils.timer import StageTimer


def known_items(dataset: Any) -> list[str]:
    """Return RecBole's item tokens in the order of their ids, from 1."""
    return [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]


def item_text(config: Any, dataset: Any, required: bool) -> ItemText:
    """Return the text of the catalogue.

    Args:
        config: The experiment's configuration.
        dataset: The whole dataset, filtered and remapped.
        required: Whether to refuse data without text.
    """
    settings = settings_from(ItemTextSettings, config)
    return load_item_text(
        DataFiles.of(dataset),
        known_items(dataset),
        settings.item_text_fields,
        text_required=required,
        cold_items=settings.cold_items,
    )


def rows_of_ids(dataset: Any, text: ItemText) -> np.ndarray:
    """Return the catalogue row of each of RecBole's item ids, int64 [item_num]; -1 for the padding item 0."""
    return np.array([-1, *(text.rows[item] for item in known_items(dataset))], dtype=np.int64)


def training_rows(dataset: Any, train: Any, text: ItemText) -> list[np.ndarray]:
    """Return each user's training interactions in time order, as catalogue rows."""
    row_of_id = rows_of_ids(dataset, text)
    return [row_of_id[items] for items in training_sequences(train).values()]


def making(config: Any, sequences: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the arguments with which embeddings and index are made."""
    return {**RunOptions(config).making(), "sequences": sequences}


def embedded_catalogue(config: Any, text: ItemText, sequences: Sequence[np.ndarray], timer: StageTimer) -> np.ndarray:
    """Return one vector per item of the catalogue, float32 [n_items, d], in the catalogue's order."""
    with timer("embedding"):
        settings = settings_from(EmbeddingSettings, config)
        return embed_items(text.items, text.documents(), settings, **making(config, sequences))


def save_embeddings(folder: Path, embeddings: np.ndarray) -> None:
    """Write the embeddings that a model reads, [n, d], into the folder of its run."""
    from safetensors.numpy import save_file

    with atomic_path(folder / EMBEDDINGS) as temporary:
        save_file({"embeddings": np.ascontiguousarray(embeddings)}, temporary)


def saved_embeddings(run: Path, n_items: int) -> np.ndarray | None:
    """Return the embeddings that a finished run's model reads, float32 [n_items, d]; None if it has none.

    Raises:
        UserError: If they cannot be read, or are those of another catalogue.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run / EMBEDDINGS
    if not path.is_file():
        return None
    try:
        embeddings = load_file(path)["embeddings"]
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}). Train the run again.") from error
    if embeddings.ndim != 2 or len(embeddings) != n_items:
        raise UserError(
            f"{path}: expected one row per item of the run's index, {n_items}, found {list(embeddings.shape)}. "
            "The file is of another run: train this one again."
        )
    return embeddings


class EmbeddedDataset(StagedDataset):
    """RecBole's sequential dataset that carries the items' embeddings once ``prepare`` has been called.

    For models that read them in addition to the items' ids, without an index. They are made from the whole catalogue,
    like those of an index; those of RecBole's items are taken from it.

    Attributes:
        item_vectors: float32 [item_num, d] by RecBole's item id; 0 for the padding item 0.
    """

    item_vectors: np.ndarray | None = None

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set ``item_vectors`` of this dataset and of its parts.

        Args:
            timer: Gets the seconds of each stage.
            parts: The split's datasets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose embeddings to use; None makes them.

        Raises:
            UserError: For missing text, or embeddings that cannot be made or read.
        """
        vectors = saved_embeddings(saved, self.item_num - 1) if saved else self._made_of(parts[0], timer)
        if vectors is None:
            raise UserError(f"{saved} has no {EMBEDDINGS}, which the model reads. Bring the file back.")
        padded = np.pad(vectors, ((1, 0), (0, 0)))
        for part in (self, *parts):
            part.item_vectors = padded

    def _made_of(self, train: Any, timer: StageTimer) -> np.ndarray:
        """Return the vectors of RecBole's items, [item_num - 1, d]."""
        config, settings = self.config, settings_from(EmbeddingSettings, self.config)
        with timer("text"):
            text = self.once("text", lambda: item_text(config, self, settings.embeds_texts))
        sequences = training_rows(self, train, text)
        vectors = self.once("embedding", lambda: embedded_catalogue(config, text, sequences, timer), uses=["text"])
        return vectors[rows_of_ids(self, text)[1:]]
