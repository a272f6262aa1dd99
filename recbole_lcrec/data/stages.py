"""What a data set of ours makes of files and caches, stage by stage, so that it is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from recbole_lcrec.data.split import SequentialSplitDataset

Product = TypeVar("Product")


class StagedDataset(SequentialSplitDataset):
    """RecBole's sequential dataset that keeps what stages (text, embedding, index) made for it."""

    made: dict[str, tuple[Any, frozenset[str], tuple[str, ...]]] | None = None
    """Stage -> what it made from files and caches, the options that it read, and the stages that it used."""

    def once(self, stage: str, make: Callable[[], Product], uses: Sequence[str] = ()) -> Product:
        """Return what a stage makes from files and caches, making it only once.

        The trials of a search get it from the search, and so need neither the files nor the caches.

        Args:
            stage: Name of the stage.
            make: Makes it.
            uses: Earlier stages whose products it reads.
        """
        if self.made is None:
            self.made = {}
        if stage not in self.made:
            with self.config.reads() as options:
                product = make()
            self.made[stage] = product, frozenset(options), tuple(uses)
        return self.made[stage][0]
