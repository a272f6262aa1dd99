"""From a configuration and a dataset to the item index: text, embeddings, quantizer, mapping, in this order.

The one place where these stages are joined; training, ``--stage=index``, searches and benchmarks all come through it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import settings_from
from recbole_lcrec.data.text import ItemText, load_item_text
from recbole_lcrec.embedding import EmbeddingSettings, embed_items
from recbole_lcrec.index.build import BuiltIndex, IndexSettings, build_index
from recbole_lcrec.index.item_index import ItemIndex, check_capacity
from recbole_lcrec.index.loading import load_index
from recbole_lcrec.quantizer import QuantizerSettings
from recbole_lcrec.stages import StageTimer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexedItems:
    """The catalogue's text and index, with what the index was made of.

    Attributes:
        text: Text of every item, in catalogue order.
        index: The item index; one that was loaded may name more items, in another order.
        embeddings: float32 [n_items, d] in catalogue order; None for an index that was loaded.
        built: What building left in the cache; None for an index that was loaded.
    """

    text: ItemText
    index: ItemIndex
    embeddings: np.ndarray | None = None
    built: BuiltIndex | None = field(default=None, repr=False)

    @property
    def report(self) -> dict[str, Any]:
        """What is known of the index's quality; empty for an index that was loaded."""
        return {**self.built.report, "folder": str(self.built.folder)} if self.built else {}


def index_items(
    config: Any, dataset: Any, train: Any, timer: StageTimer, saved: Path | None = None
) -> IndexedItems:
    """Run the stages from item text to item index.

    Args:
        config: The experiment's configuration.
        dataset: The whole dataset, filtered and remapped.
        train: Its training part, for indices made of interactions.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run whose index is taken, or None.

    Raises:
        UserError: For missing text, a broken index file, and whatever else the stages refuse.
    """
    settings = settings_from(IndexSettings, config)
    quantizer = settings_from(QuantizerSettings, config)
    source = saved / "index.json" if saved else settings.index_file
    known_items = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    with timer("text"):
        text = load_item_text(
            Path(dataset.dataset_path) / f"{dataset.dataset_name}.item",
            known_items,
            config["item_text_fields"],
            item_field=dataset.iid_field,
            separator=config["field_separator"],
            encoding=config["encoding"],
            text_required=not (source or config["text_encoder"].startswith("file:")),
        )
    if not source:
        return _built(config, text, quantizer, timer)
    with timer("index"):
        index = load_index(
            Path(source),
            collisions="error" if saved else settings.index_collisions,
            required_items=text.items,
            codebook_size=quantizer.codebook_size,
        )
    logger.info("Item index: %d items, %d levels, from %s.", len(index.items), len(index.level_sizes), source)
    return IndexedItems(text, index)


def _built(config: Any, text: ItemText, quantizer: QuantizerSettings, timer: StageTimer) -> IndexedItems:
    check_capacity(len(text.items), quantizer.level_sizes)
    show, device = bool(config["show_progress"]), str(config["device"])
    cache_dir = Path(config["cache_dir"])
    with timer("embedding"):
        embeddings = embed_items(
            text.items, text.documents(), settings_from(EmbeddingSettings, config),
            cache_dir=cache_dir, seed=config["seed"], device=device, show_progress=show,
        )  # fmt: skip
    with timer("index"):
        built = build_index(
            text.items, embeddings, quantizer,
            cache_dir=cache_dir, seed=config["seed"], device=device, show_progress=show,
        )  # fmt: skip
    return IndexedItems(text, built.index, embeddings, built)


def training_sequences(rows: Any, user_field: str, item_field: str, history_field: str) -> list[np.ndarray]:
    """Return each user's training interactions in time order, as RecBole's item ids.

    A training sample holds a history and a target; a user's first sample has a history of one item.

    Args:
        rows: The interactions of the training dataset, each user's samples in time order.
        user_field: Name of the user column; likewise ``item_field`` and ``history_field``.

    Returns:
        One int64 array per user, users in ascending order of RecBole's ids.
    """
    users, targets = rows[user_field].numpy(), rows[item_field].numpy()
    firsts = rows[history_field].numpy()[:, 0]
    order = np.argsort(users, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(users[order]) != 0])
    parts: Sequence[np.ndarray] = np.split(order, starts[1:])
    return [np.r_[firsts[part[0]], targets[part]].astype(np.int64) for part in parts if len(part)]
