"""What trainer, evaluation, saving and serving ask of a model and of its data, beyond RecBole's own interface.

Each protocol is one ability, and code that needs it checks with ``isinstance``; a plain RecBole model has none of them
and trains, is evaluated and is saved as RecBole does it. A model of a plugin gains an ability by having the methods;
most come with the base classes of this folder.

======================  ==============================================================================================
ability                 asked by
======================  ==============================================================================================
``ChecksOptions``       :mod:`recbole_lcrec.experiment.checks`, of the class, before data are read
``ChecksModels``        the same, once for each pretrained model that a run starts from
``PreparesCatalogue``   :mod:`recbole_lcrec.experiment.split_loaders`, of the whole data set
``CountsEpochs``        :mod:`recbole_lcrec.training.trainer`, of the train loader
``NestsSamples``        :mod:`recbole_lcrec.experiment.building`, of the train loader
``KeepsApart``          the same, of the model that a nesting train loader feeds
``PreviewsBatches``     :mod:`recbole_lcrec.training.measuring`, of the train loader
``HasPrecisions``       :mod:`recbole_lcrec.training.training_settings`, of the class
``WeighsBatches``       the same, when it accumulates gradients or shares a batch among processes
``DescribesBatches``    the same, when the loss of a batch is not finite
``KeepsOwnWeights``     :mod:`recbole_lcrec.training.checkpoint`
``LearnsPreferences``   :mod:`recbole_lcrec.training.preference_stage`
``RecommendsTopItems``  :mod:`recbole_lcrec.training.evaluation`
``RecommendsRows``      :mod:`recbole_lcrec.experiment.experiment`, for ``recommend``
``HasCatalogue``        :mod:`recbole_lcrec.recommending.items`
``SearchesRows``        :mod:`recbole_lcrec.recommending.recommender`, for ``search`` and ``preferences``
``HasTokenizer``        :mod:`recbole_lcrec.export.exporting`
``UsesCatalogue``       :mod:`recbole_lcrec.experiment.experiment`, for ``add_items``
``UsesQueries``         :mod:`recbole_lcrec.experiment.building`, under ``eval_task: itemsearch``
``SavesAssets``         :mod:`recbole_lcrec.experiment.experiment`, when the output folder is written
======================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.evaluation.queries import Queries, TopItems
from recbole_lcrec.usertext import UserTexts
from recbole_lcrec.utils.timer import StageTimer


@runtime_checkable
class HasSettings(Protocol):
    """A model class with options of its own.

    Attributes:
        settings: Frozen dataclasses that the options are made into, each of which refuses wrong values.
    """

    settings: tuple[Any, ...]


@runtime_checkable
class ChecksOptions(Protocol):
    """A model class that knows which of its options contradict each other."""

    def check_options(self, config: Any) -> None:
        """Refuse wrong options before data are read (a class method).

        Raises:
            UserError: One for all mistakes.
        """


@runtime_checkable
class ChecksModels(HasSettings, Protocol):
    """A model class that starts from pretrained models."""

    def check_models(self, config: Any) -> None:
        """Load the pretrained models once and see whether they can be used (a class method).

        Raises:
            UserError: For a model that cannot be loaded, is of another kind, or does not support the options.
        """


@runtime_checkable
class HasUserTexts(Protocol):
    """A catalogue with what the users say, for training."""

    user_texts: UserTexts


@runtime_checkable
class PreparesItems(Protocol):
    """A data set, or a part of its split, that has more than RecBole's interactions: texts, embeddings, an index.

    Attributes:
        made: Stage -> what it made from files and caches, the options that it read, and the stages that it used.
    """

    made: dict[str, tuple[Any, frozenset[str], tuple[str, ...]]] | None

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set what the model knows of the items, of this data set and of its parts.

        Args:
            timer: Records the seconds of each stage.
            parts: The split's data sets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose index and tokenizer are used; None builds them.
        """


@runtime_checkable
class PreparesCatalogue(PreparesItems, Protocol):
    """A data set, or a part of its split, that has a catalogue with an item index.

    Attributes:
        catalogue: What the model knows of the items; None until ``prepare`` has been called.
    """

    catalogue: Any


@runtime_checkable
class CountsEpochs(Protocol):
    """A train loader whose batches are a function of the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""


@runtime_checkable
class NestsSamples(Protocol):
    """A train loader that puts samples of a user into one row.

    Attributes:
        nests: Whether it does; to be switched off for a model that does not keep samples apart.
    """

    nests: bool


@runtime_checkable
class KeepsApart(Protocol):
    """A model that can be fed rows of several samples.

    Attributes:
        keeps_apart: Whether, with its options, samples in one row do not see each other.
    """

    keeps_apart: bool


@runtime_checkable
class PreviewsBatches(Protocol):
    """A train loader whose first batches can be had without building those of the epoch twice."""

    def first_batches(self, count: int) -> list[Interaction]:
        """Return the first ``count`` batches of the chosen epoch, or all if it has fewer."""


@runtime_checkable
class HasPrecisions(Protocol):
    """A model class that can be trained in several number formats.

    Attributes:
        precisions: What ``precision: auto`` chooses among, the plainest first.
    """

    precisions: tuple[str, ...]


@runtime_checkable
class HasSamples(Protocol):
    """A train loader of instruction samples; ``samples.per_epoch`` counts them by task."""

    samples: Any


@runtime_checkable
class WeighsBatches(Protocol):
    """A model whose loss is a mean over something other than rows."""

    def loss_weight(self, interaction: Interaction) -> float:
        """Return how much a batch counts when the gradients of several batches are summed."""


@runtime_checkable
class DescribesBatches(Protocol):
    """A model that can say what is in a training batch."""

    def describe_batch(self, interaction: Interaction) -> str:
        """Return a few words for messages."""


@runtime_checkable
class KeepsOwnWeights(Protocol):
    """A model whose checkpoint is not its state dict: adapters, say."""

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Return the weights to save."""

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Load what ``checkpoint_state`` returned."""


@runtime_checkable
class LearnsPreferences(Protocol):
    """A model that can be trained further on preferences: it finds items, and log-probabilities with gradients."""

    def beams(self, histories: Sequence[np.ndarray], k: int) -> torch.Tensor:
        """Return the best ``k`` items after each history, catalogue rows int64 [B, K]; -1 where nothing is left."""

    def log_probs(self, histories: Sequence[np.ndarray], rows: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities [B, C] of catalogue rows int64 [B, C] after each history."""


@runtime_checkable
class RecommendsTopItems(Protocol):
    """A model that finds the best items without scoring all of them, in one or more wordings of its prompt."""

    @property
    def list_length(self) -> int | None:
        """How many items it finds per user; None if its options make it score all of them after all."""

    def full_sort_top(
        self, interaction: Interaction, seen: SeenItems | None = None, prompts: tuple[int, ...] | None = None
    ) -> TopItems:
        """Return the best items of the whole catalogue for each history.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).
            seen: Items that each user must not be given; None excludes nothing.
            prompts: Numbers of the wordings to ask in, several as an ensemble; None for the model's first choice.
        """

    def predict(self, interaction: Interaction, prompts: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the score of each row's item after its history, float32 [B]; ``prompts`` as above."""


@runtime_checkable
class HasCatalogue(Protocol):
    """A model that knows items by the rows of a catalogue."""

    catalogue: Any


@runtime_checkable
class HasTokenizer(Protocol):
    """A model that puts histories into words."""

    tokenizer: Any


@runtime_checkable
class RecommendsRows(Protocol):
    """A model that recommends catalogue rows for histories of catalogue rows.

    Attributes:
        catalogue: The catalogue, an ``ItemCatalogue``.
    """

    catalogue: Any

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        among: np.ndarray | None = None,
        users: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best ``k`` rows for each history: (rows, scores), both [B, k]; row -1 where nothing is left.

        Args:
            histories: Catalogue rows, oldest first.
            k: Items per history.
            among: Rows to choose from, int64 [n]; None for the whole catalogue.
            users: RecBole's ids of the users whose histories these are; None for unknown users.
        """


@runtime_checkable
class SearchesRows(HasCatalogue, Protocol):
    """A model that finds catalogue rows by what users ask for in words."""

    def search_rows(self, text: str, history: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best ``k`` rows for a query: (rows, scores), both [1, k]; row -1 where nothing is left.

        Args:
            text: What is asked for.
            history: Catalogue rows, oldest first; empty for none.
            k: Items.
        """


@runtime_checkable
class UsesCatalogue(Protocol):
    """A model that can be given another catalogue after training: the data set's own with new items appended."""

    catalogue: Any

    def use_catalogue(self, catalogue: Any) -> None:
        """Recommend from this catalogue from now on."""


@runtime_checkable
class UsesQueries(Protocol):
    """A model that users can ask in words."""

    def use_queries(self, queries: Queries) -> None:
        """Take what users ask for, from now on."""


@runtime_checkable
class SavesAssets(Protocol):
    """A model that needs more than its weights to be loaded again: an index, a tokenizer, an architecture."""

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights into an existing folder."""
