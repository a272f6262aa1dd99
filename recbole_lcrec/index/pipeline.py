"""From a configuration and a dataset to the item index: text, embeddings, quantizer, mapping, in this order.

The one place where these stages are joined; training, ``--stage=index``, searches and benchmarks all come through it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.embedding import EmbeddingSettings
from recbole_lcrec.embedding.items import (
    embedded_catalogue,
    item_text,
    making,
    rows_of_ids,
    save_embeddings,
    saved_embeddings,
    training_rows,
)
from recbole_lcrec.embedding.new_items import ItemEncoder
from recbole_lcrec.index.adding import IndexMaker
from recbole_lcrec.index.build import BuiltIndex, IndexSettings, build_index, index_level_sizes
from recbole_lcrec.index.collaborative_run import collaborative_vectors
from recbole_lcrec.index.item_index import ItemIndex, check_capacity
from recbole_lcrec.index.loading import load_index
from recbole_lcrec.index.mapping import last_code_ranks
from recbole_lcrec.index.new_texts import with_new_items, write_new_items
from recbole_lcrec.quantizer import QuantizerSettings, quantizer_class
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.timer import StageTimer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexedItems:
    """The catalogue's text and index, with what the index was made from.

    Attributes:
        text: Text of every item, in catalogue order.
        index: The item index; a loaded one may name more items, in another order.
        embeddings: float32 [n_items, d] in the index's order; None for an index that needs none, and for a loaded one,
            unless it is that of a finished run whose model reads them.
        built: What building left in the cache; None for a loaded index.
        embedding: Option ``embedding``; None if there are no embeddings.
        maker: Places new items; None for an index file on its own.
        added: Number of items at the end of the index that a finished run was trained without.
    """

    text: ItemText
    index: ItemIndex
    embeddings: np.ndarray | None = None
    built: BuiltIndex | None = field(default=None, repr=False)
    embedding: str | None = None
    maker: IndexMaker | None = field(default=None, repr=False)
    added: int = 0

    @property
    def n_trained(self) -> int:
        """Number of items, from the first of the index, that a model is trained on."""
        return len(self.index.items) - self.added

    @property
    def report(self) -> dict[str, Any]:
        """What is known about the index's quality; empty for a loaded index."""
        return (
            {**self.built.report, "embedding": self.embedding, "folder": str(self.built.folder)} if self.built else {}
        )

    def add(
        self,
        titles: Mapping[str, str],
        descriptions: Mapping[str, str] | None = None,
        embeddings: np.ndarray | None = None,
        *,
        device: str = "cpu",
    ) -> IndexedItems:
        """Return the catalogue with new items after its own; no existing path changes.

        Args:
            titles: New item tokens and their titles, which may be empty.
            descriptions: The descriptions of those that have one.
            embeddings: float32 [len(titles), d], made like those of the index, instead of texts.
            device: Where an ``hf:`` encoder runs.

        Raises:
            UserError: If there is no quantizer next to the index, or if :meth:`IndexMaker.add` refuses the items.
        """
        if self.maker is None:
            raise UserError(
                "new items: there is no quantizer next to this index (a folder 'quantizer' where index.json is). Use "
                "an index that this package built."
            )
        items = list(titles)
        text = self.text.extended(items, list(titles.values()), [(descriptions or {}).get(i, "") for i in items])
        documents = text.documents()[len(self.text.items) :]
        index, vectors = self.maker.add(self.index, items, documents, embeddings, device=device)
        known = None if self.embeddings is None else np.concatenate([self.embeddings, vectors])
        return replace(self, text=text, index=index, embeddings=known, added=self.added + len(items))

    def write_report(self, folder: Path) -> dict[str, Any]:
        """Write report.json and report.html into an existing folder; return the figures."""
        from recbole_lcrec.index.report import index_quality, write_report

        rows = [self.text.rows.get(item) for item in self.index.items]
        titles = ["" if row is None else self.text.titles[row] for row in rows]
        nearest, ranks = None, None
        if self.built and self.maker and self.maker.quantizer.has_geometry:
            nearest = self.maker.quantizer.codes_of(self.embeddings)
            if nearest.shape == self.index.codes.shape:
                ranks = last_code_ranks(self.index.codes, self.maker.quantizer.costs_of(self.embeddings))
        quality = index_quality(
            self.index, titles=titles, embeddings=self.embeddings, nearest_codes=nearest, displacement_ranks=ranks,
            build_report=self.report,
        )  # fmt: skip
        write_report(folder, quality, self.index, titles)
        return quality

    def save(self, folder: Path, *, embeddings: bool = False) -> None:
        """Write index.json, the texts of added items and, in a folder, the quantizer into an existing folder.

        Args:
            folder: Where they go.
            embeddings: Whether to write the embeddings too, for models that read them.
        """
        self.index.save(folder / "index.json")
        if self.added:
            write_new_items(folder, self.text, self.index.items[self.n_trained :])
        if self.maker is not None:
            self.maker.save(folder)
        if embeddings:
            assert self.embeddings is not None
            save_embeddings(folder, self.embeddings)


def index_items(
    config: Any, dataset: Any, parts: Sequence[Any], timer: StageTimer, saved: Path | None = None
) -> IndexedItems:
    """Run the stages from item text to item index.

    Args:
        config: The experiment's configuration.
        dataset: The whole dataset, filtered and remapped.
        parts: Its training, validation and test parts; only the first is learned from.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run whose index to take, or None.

    Raises:
        UserError: For missing text, a broken index file, and anything else that the stages refuse.
    """
    settings, quantizer = settings_from(IndexSettings, config), settings_from(QuantizerSettings, config)
    source = saved or settings.index_file
    required = not source and _needs_text(config, quantizer)
    with timer("text"):
        text = dataset.once("text", lambda: item_text(config, dataset, required))
    if saved:
        return _loaded(config, text, timer, saved)
    if source:
        return dataset.once("index", lambda: _loaded(config, text, timer), uses=["text"])
    check_capacity(len(text.items), index_level_sizes(quantizer, settings.index_mapping))
    sequences = training_rows(dataset, parts[0], text)
    embedded = dataset.once("embedding", lambda: _embedded(config, text, sequences, timer), uses=["text"])
    known, uses = None, ["text", "embedding"]
    if quantizer_class(quantizer.quantizer).needs_collaborative:
        known = dataset.once("collaborative", lambda: _collaborative(config, dataset, parts, text), uses=["text"])
        uses.append("collaborative")
    return dataset.once("index", lambda: _built(config, text, embedded, sequences, known, timer), uses=uses)


def _collaborative(config: Any, dataset: Any, parts: Sequence[Any], text: ItemText) -> np.ndarray | None:
    """Return the catalogue items' embeddings from the run of ``collaborative_from``, NaN for those it lacks."""
    if not config["collaborative_from"]:
        return None
    known = collaborative_vectors(config["collaborative_from"], dataset, parts)
    vectors = np.full((len(text.items), known.shape[1]), np.nan, dtype=np.float32)
    vectors[rows_of_ids(dataset, text)[1:]] = known
    return vectors


def _loaded(config: Any, text: ItemText, timer: StageTimer, saved: Path | None = None) -> IndexedItems:
    """Return the text with the index of option ``index_file`` or of a finished run."""
    settings, quantizer = settings_from(IndexSettings, config), settings_from(QuantizerSettings, config)
    source = Path(saved / "index.json" if saved else settings.index_file)  # type: ignore[arg-type]
    text, n_new = with_new_items(text, saved) if saved else (text, 0)
    sizes: Any = quantizer.codebook_size
    if saved and not settings.index_file:  # built by us: index_mapping=digit gave it one more level
        sizes = list(index_level_sizes(quantizer, settings.index_mapping))
    with timer("index"):
        index = load_index(
            source,
            collisions="error" if saved else settings.index_collisions,
            required_items=text.items if settings.index_missing == "error" else (),
            codebook_size=sizes,
        )
        logger.info("Item index: %d items, %d levels, from %s.", len(index.items), len(index.level_sizes), source)
        maker = IndexMaker.load(source.parent)
        embeddings = saved_embeddings(saved, len(index.items)) if saved else None
        indexed = _with_missing(IndexedItems(text, index, embeddings, maker=maker, added=n_new), config)
        return indexed if saved else replace(indexed, added=0)


def _with_missing(indexed: IndexedItems, config: Any) -> IndexedItems:
    """Return the index after adding the catalogue's items that it lacks (option ``index_missing: add``)."""
    text, index, maker = indexed.text, indexed.index, indexed.maker
    known = set(index.items)
    missing = [item for item in text.items if item not in known]
    if not missing:
        return indexed
    if maker is None:
        raise UserError(
            f"index_missing=add: the index lacks {len(missing)} of the catalogue's items (e.g. {missing[0]!r}), and "
            "there is no quantizer next to it (a folder 'quantizer') to place them with. Use an index that this "
            "package built, with its folder."
        )
    documents = text.documents()
    of_missing = [documents[text.rows[item]] for item in missing]
    index, vectors = maker.add(index, missing, of_missing, device=str(RunOptions(config).device))
    logger.info("Item index: %d new items added; no path that was there changed.", len(missing))
    embeddings = None if indexed.embeddings is None else np.concatenate([indexed.embeddings, vectors])
    return replace(indexed, index=index, embeddings=embeddings, added=indexed.added + len(missing))


def _needs_text(config: Any, quantizer: QuantizerSettings) -> bool:
    """Return whether the index cannot be built without the items' text."""
    settings = settings_from(EmbeddingSettings, config)
    return quantizer_class(quantizer.quantizer).needs_embeddings and settings.embeds_texts


def _embedded(
    config: Any, text: ItemText, sequences: Sequence[np.ndarray], timer: StageTimer
) -> tuple[np.ndarray, ItemEncoder] | None:
    """Return the items' embeddings and the encoder for new items; None for a quantizer without embeddings."""
    if not QuantizerSettings.component(config).load().needs_embeddings:
        return None
    embeddings, chosen = embedded_catalogue(config, text, sequences, timer), settings_from(EmbeddingSettings, config)
    return embeddings, ItemEncoder.of_catalogue(
        text.documents(),
        embeddings,
        chosen,
        cache_dir=Path(RunOptions(config).cache_dir),
        seed=RunOptions(config).seed,
    )


def _built(
    config: Any,
    text: ItemText,
    embedded: tuple[np.ndarray, ItemEncoder] | None,
    sequences: Sequence[np.ndarray],
    collaborative: np.ndarray | None,
    timer: StageTimer,
) -> IndexedItems:
    settings, quantizer = settings_from(IndexSettings, config), settings_from(QuantizerSettings, config)
    embeddings, encoder = embedded or (None, None)
    with timer("index"):
        options = {**making(config, sequences), "mapping": settings.index_mapping, "collaborative": collaborative}
        built = build_index(text.items, embeddings, quantizer, **options)
    maker = IndexMaker(built.quantizer, encoder)
    source = None if embeddings is None else settings_from(EmbeddingSettings, config).embedding
    return IndexedItems(text, built.index, embeddings, built, source, maker)
