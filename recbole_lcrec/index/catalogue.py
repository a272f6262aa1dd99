"""What a generative model recommends from: the items' text, index and paths.

Models whose vocabulary is the index alone (TIGER) need nothing else; those that read words extend it
(``recbole_lcrec.instruction``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.data.stages import StagedDataset
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.embedding.items import rows_of_ids
from recbole_lcrec.index.item_index import ItemIndex
from recbole_lcrec.index.pipeline import IndexedItems, index_items
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.timer import StageTimer

PAD_ID, END_ID, FIRST_CODE_ID = 0, 1, 2
"""The vocabulary of a model that reads no words: padding, end, then every code of every level, used or not."""


@dataclass(frozen=True)
class Catalogue:
    """All that a generative model knows about the items.

    Attributes:
        indexed: Text and index, and what they were made from.
        code_ids: Vocabulary ids of all index tokens, level by level, int64 [sum of the level sizes].
        row_of_id: Catalogue row of each of RecBole's item ids, int64 [item_num]; -1 for the padding item 0.
        paths: Vocabulary ids of each item's path, int64 [n_rows, L]; a row is a position in ``text.items``.
    """

    indexed: IndexedItems
    code_ids: np.ndarray
    row_of_id: np.ndarray
    paths: np.ndarray

    @property
    def text(self) -> ItemText:
        """Text of every item, in catalogue order."""
        return self.indexed.text

    @property
    def index(self) -> ItemIndex:
        """The item index; it may name more items than the catalogue."""
        return self.indexed.index

    @property
    def id_of_row(self) -> np.ndarray:
        """RecBole's item id of each catalogue row, int64 [n_rows + 1]; 0 for items without interactions.

        The last entry is 0, too, so row -1, which stands for no item, becomes the padding item.
        """
        ids = np.zeros(len(self.paths) + 1, np.int64)
        ids[self.row_of_id[1:]] = np.arange(1, len(self.row_of_id))
        return ids

    @property
    def embeddings(self) -> np.ndarray | None:
        """Embeddings of the items, float32 [n_rows, d]; None if the index came without them."""
        embeddings = self.indexed.embeddings
        return None if embeddings is None else embeddings[self.index.positions(self.text.items)]

    @property
    def trained_paths(self) -> np.ndarray:
        """Vocabulary ids of the paths that a model is trained on, int64 [n, L]: without items added afterwards."""
        return path_ids(self.index, self.code_ids, self.index.items[: self.indexed.n_trained])

    def extended(self, indexed: IndexedItems) -> Catalogue:
        """Return this catalogue with new items after its own; the tokens of their paths exist already.

        Args:
            indexed: What ``self.indexed.add`` returned.
        """
        return replace(self, indexed=indexed, paths=path_ids(indexed.index, self.code_ids, indexed.text.items))


def path_ids(index: ItemIndex, code_ids: np.ndarray, items: Sequence[str]) -> np.ndarray:
    """Return the vocabulary ids of the paths of items, int64 [n, L].

    Args:
        index: The item index.
        code_ids: Vocabulary ids of ``index.index_tokens()``, int64.
        items: Item tokens; those of a catalogue give the ids of its rows.
    """
    starts = np.concatenate([[0], np.cumsum(index.level_sizes)[:-1]]).astype(np.int64)
    return code_ids[index.codes_of(items) + starts]


class CatalogueDataset(StagedDataset):
    """RecBole's sequential dataset that carries a ``catalogue`` once ``prepare`` has been called.

    In this class, the vocabulary is that of the index, without words.
    """

    catalogue: Any = None

    def index_items(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> IndexedItems:
        """Build (or load) text, embeddings and item index.

        Args:
            timer: Gets the seconds of each stage.
            parts: The split's datasets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose index to use; None builds it.
        """
        return index_items(self.config, self, parts, timer, saved)

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set ``catalogue`` of this dataset and of its parts.

        Args:
            timer: Gets the seconds of each stage.
            parts: As for ``index_items``.
            saved: Folder of a finished run whose index (and tokenizer) to use; None builds them.
        """
        indexed = self.index_items(timer, parts, saved)
        self.share(self.make_catalogue(indexed, timer, saved), parts)

    def share(self, catalogue: Catalogue, parts: Sequence[Any]) -> None:
        """Give this dataset and its parts their catalogue."""
        self.catalogue = catalogue
        for part in parts:
            part.catalogue = catalogue

    def make_catalogue(self, indexed: IndexedItems, timer: StageTimer, saved: Path | None) -> Catalogue:
        """Return the catalogue of indexed items.

        Args:
            indexed: Text and index of the items.
            timer: Gets the seconds of each stage.
            saved: Folder of a finished run from which to take the tokenizer, if there is one, or None.
        """
        n_codes = sum(indexed.index.level_sizes)
        code_ids = np.arange(FIRST_CODE_ID, FIRST_CODE_ID + n_codes, dtype=np.int64)
        paths = path_ids(indexed.index, code_ids, indexed.text.items)
        return Catalogue(indexed, code_ids, rows_of_ids(self, indexed.text), paths)


def rows_of_items(catalogue: Catalogue, items: Sequence[str]) -> np.ndarray:
    """Return the catalogue rows of item tokens.

    Raises:
        UserError: Naming the first token that is not in the catalogue.
    """
    unknown = [item for item in items if item not in catalogue.text.rows]
    if unknown:
        raise UserError(
            f"{len(unknown)} item(s) are not in the catalogue, e.g. {unknown[0]!r}. "
            "Item tokens are the raw ids of the data set's .inter and .item files, as strings."
        )
    return np.array([catalogue.text.rows[item] for item in items], dtype=np.int64)
