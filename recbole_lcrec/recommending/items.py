"""The items that a model knows: their titles, how often they were taken, and where their vectors have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import ItemText, load_item_text
from recbole_lcrec.evaluation.ranks import item_counts
from recbole_lcrec.experiment import Experiment
from recbole_lcrec.model.interface import HasCatalogue
from recbole_lcrec.recommending.lists import POPULARITY, TITLES, ItemList, ScoredItem
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError


class KnownItems:
    """The items of a model as they are now; adding items makes a new value.

    The place of an item is its catalogue row, or RecBole's item id for models without a catalogue (0 is padding).

    Args:
        experiment: An experiment, trained or loaded.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._catalogue = experiment.model.catalogue if isinstance(experiment.model, HasCatalogue) else None

    @cached_property
    def text(self) -> ItemText:
        """Their text; as RecBole's models read none, theirs is read from the .item file."""
        if self._catalogue is not None:
            return self._catalogue.text  # type: ignore[no-any-return]
        dataset, fields = self._experiment.dataset, self._experiment.config["item_text_fields"]
        known = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
        return load_item_text(DataFiles.of(dataset), known, fields, text_required=False, cold_items=False)

    @cached_property
    def tokens(self) -> tuple[str | None, ...]:
        """Their tokens by place; None for the padding."""
        if self._catalogue is not None:
            return tuple(self._catalogue.text.items)
        dataset = self._experiment.dataset
        return (None, *(str(token) for token in dataset.field2id_token[dataset.iid_field][1:]))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens) if token is not None}

    @cached_property
    def counts(self) -> np.ndarray:
        """Their training interactions by place, int64; -1 for the padding."""
        counts = item_counts(self._experiment.train_data._dataset)
        if self._catalogue is None:
            return np.concatenate([[-1], counts[1:]])
        of_rows = np.zeros(len(self.tokens), np.int64)
        of_rows[self._catalogue.row_of_id[1:]] = counts[1:]
        return of_rows

    def place(self, method: str, item: Any) -> int:
        """Return the place of an item.

        Args:
            method: The calling method, for the message.
            item: Item token.

        Raises:
            UserError: For an unknown item.
        """
        place = self._places.get(str(item))
        if place is None:
            raise UserError(
                f"{method}: item {item!r} is not known to the model. Item tokens are the raw ids of the data set's "
                ".inter and .item files."
            )
        return place

    def places(self, what: str, history: Iterable[str]) -> np.ndarray:
        """Return the places of a history's items, int64 [n]; it may be empty.

        Raises:
            UserError: For an unknown item, or anything other than a list of items.
        """
        tokens = arguments.item_lists(what, [history], may_be_empty=True)[0]
        return np.array([self.place(what, token) for token in tokens], dtype=np.int64)

    def title(self, item: str) -> str | None:
        """Return the title of an item; None if it has none."""
        row = self.text.rows.get(item)
        return None if row is None else self.text.titles[row] or None

    def scored(self, items: Sequence[str], scores: Sequence[float], *, titles: bool = True) -> tuple[ScoredItem, ...]:
        """Return items with their scores and, if wanted, their titles."""
        return tuple(
            ScoredItem(item, self.title(item) if titles else None, float(score))
            for item, score in zip(items, scores, strict=True)
        )

    def popular(self, k: int, among: Sequence[str] | None = None, *, titles: bool = True) -> ItemList:
        """Return the most frequent items in training; scores are numbers of interactions.

        Args:
            k: Items to return.
            among: Item tokens to choose from; None for all.
            titles: Whether to return titles, too.
        """
        places = self._by_count
        if among is not None:
            chosen = np.array(sorted({self.place("recommend", item) for item in among}))
            places = chosen[np.argsort(-self.counts[chosen], kind="stable")]
        return ItemList(self._counted(places[:k], titles=titles), POPULARITY)

    def found(self, words: str, limit: int) -> ItemList:
        """Return items whose titles contain all words, also as parts of words, the most frequent ones first."""
        asked = words.casefold().split()
        matches = [place for place, title in self._folded if asked and all(word in title for word in asked)]
        places = np.array(matches, dtype=np.int64)
        return ItemList(self._counted(places[np.argsort(-self.counts[places], kind="stable")][:limit]), TITLES)

    def _counted(self, places: np.ndarray, *, titles: bool = True) -> tuple[ScoredItem, ...]:
        tokens = [str(self.tokens[place]) for place in places.tolist()]
        return self.scored(tokens, self.counts[places].tolist(), titles=titles)

    @cached_property
    def _by_count(self) -> np.ndarray:
        order = np.argsort(-self.counts, kind="stable")
        return order[self.counts[order] >= 0]

    @cached_property
    def _folded(self) -> list[tuple[int, str]]:
        titles = [(place, self.title(token)) for place, token in enumerate(self.tokens) if token is not None]
        return [(place, title.casefold()) for place, title in titles if title]
