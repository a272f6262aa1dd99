"""New items without retraining: free paths near their neighbours, while every path that is there stays.

The tokens of all codes are in the LM's vocabulary already, used or not, so a trained model can generate the new paths;
it understands them to the extent that it has learned what their codes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_lcrec.embedding.new_items import ItemEncoder
from recbole_lcrec.index.item_index import ItemIndex
from recbole_lcrec.index.mapping import add_paths
from recbole_lcrec.quantizer import Quantizer, load_quantizer
from recbole_lcrec.quantizer.base import check_embeddings
from recbole_lcrec.quantizer.costs import own_code_costs
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_folder

FOLDER = "quantizer"
"""Name of the folder next to index.json that holds what is needed to place new items."""


@dataclass(frozen=True)
class IndexMaker:
    """What gives items their codes: the fitted quantizer, and the encoder of its embeddings.

    Attributes:
        quantizer: A fitted quantizer.
        encoder: Makes embeddings of texts; None for quantizers that need no embeddings.
    """

    quantizer: Quantizer
    encoder: ItemEncoder | None

    def add(
        self,
        index: ItemIndex,
        items: Sequence[str],
        texts: Sequence[str] | None = None,
        embeddings: np.ndarray | None = None,
        *,
        device: str = "cpu",
    ) -> tuple[ItemIndex, np.ndarray]:
        """Return ``index`` with new items after its own, and the new items' embeddings, float32 [len(items), d].

        Args:
            index: The index that this quantizer made, perhaps with items added before.
            items: New item tokens.
            texts: One text per new item, or None if embeddings are given.
            embeddings: float32 [len(items), d], made like those of the index; they take precedence over texts.
            device: Where an ``hf:`` encoder runs.

        Raises:
            UserError: For items that exist already or are given twice, neither texts nor embeddings, embeddings of
                another width or not finite, a quantizer without geometry or of another index, or no free path.
        """
        known = set(index.items)
        again = next((item for row, item in enumerate(items) if item in known or item in items[:row]), None)
        if again is not None:
            raise UserError(f"item {again!r} is in the item index already, or given twice. Add an item once.")
        if not self.quantizer.has_geometry:
            raise UserError(
                f"the index was built by quantizer={self.quantizer.settings.quantizer}, whose codes do not "
                "come from embeddings, so new items cannot be placed. Build the index again with them."
            )
        sizes = self.quantizer.level_sizes
        if index.level_sizes[: len(sizes)] != sizes:
            raise UserError(
                f"the quantizer next to the index has levels of {sizes} codes, the index of {index.level_sizes}: they "
                "do not belong together. Use the folder that the index was written to."
            )
        vectors = self._vectors(items, texts, embeddings, device)
        codes = self.quantizer.codes_of(vectors)
        costs = self.quantizer.costs_of(vectors)
        if len(index.level_sizes) > codes.shape[1]:  # index_mapping=digit: the next free number under the path
            codes = np.column_stack([codes, np.zeros(len(codes), dtype=np.int64)])
            costs = own_code_costs(codes, index.level_sizes)
        added = add_paths(index.codes, codes, index.level_sizes, costs)
        return index.extended(items, added.codes), vectors

    def _vectors(
        self, items: Sequence[str], texts: Sequence[str] | None, embeddings: np.ndarray | None, device: str
    ) -> np.ndarray:
        if embeddings is None:
            if texts is None or self.encoder is None:
                raise UserError("new items need texts or embeddings to be placed in the index. Give one of them.")
            assert len(texts) == len(items), "one text per item"
            return self.encoder.embed(texts, device=device)
        vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
        width = self.quantizer.input_dim
        if vectors.shape != (len(items), width):
            raise UserError(
                f"embeddings: found an array of shape {list(vectors.shape)}, expected [{len(items)}, {width}], one "
                "row per new item, made in the same way as those of the index."
            )
        check_embeddings(vectors)
        return vectors

    def save(self, folder: Path) -> None:
        """Write the folder ``quantizer`` into ``folder``, whole or not at all."""
        with atomic_folder(folder / FOLDER) as temporary:
            self.quantizer.save(temporary)
            if self.encoder is not None:
                self.encoder.save(temporary)

    @classmethod
    def load(cls, folder: Path) -> IndexMaker | None:
        """Load what ``save`` wrote next to an index; None if there is nothing.

        Raises:
            UserError: If it is broken.
        """
        folder = folder / FOLDER
        if not folder.is_dir():
            return None
        try:
            encoder = ItemEncoder.load(folder) if (folder / "encoder.json").is_file() else None
            return cls(load_quantizer(folder), encoder)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{folder} cannot be read ({reason}). Build the index again.") from error
