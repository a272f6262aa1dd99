"""The data module of generative models: RecBole's split, with the catalogue's text, index and prompts beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.data.split import SequentialSplitDataset, training_sequences
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.errors import UserError
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.index.pipeline import IndexedItems, index_items
from recbole_lcrec.instruction.prompts import InstructionSettings, PromptBuilder
from recbole_lcrec.instruction.samples import Sequences
from recbole_lcrec.instruction.templates import USER_TASKS
from recbole_lcrec.instruction.tokenizer import add_index_tokens, item_token_ids, load_tokenizer, train_tokenizer
from recbole_lcrec.stages import StageTimer
from recbole_lcrec.usertext import NO_USER_TEXTS, UserTexts, UserTextSettings, load_user_texts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """All that a generative model knows of the items.

    Attributes:
        text: Text of every item, in catalogue order (a *row* is a position in it).
        index: The item index; it may name more items than the catalogue.
        tokenizer: Knows the words of the text and all index tokens.
        paths: Vocabulary ids of each item's path, int64 [n_rows, L].
        row_of_id: Catalogue row of each of RecBole's item ids, int64 [item_num]; -1 for the padding item 0.
        builder: The prompt builder.
        indexed: What the index was made of.
        user_texts: What the users say, for training.
    """

    text: ItemText
    index: ItemIndex
    tokenizer: Any
    paths: np.ndarray
    row_of_id: np.ndarray
    builder: PromptBuilder
    indexed: IndexedItems
    user_texts: UserTexts = NO_USER_TEXTS

    def extended(self, indexed: IndexedItems) -> Catalogue:
        """Return this catalogue with new items behind its own; the tokens of their paths exist already.

        Args:
            indexed: What ``self.indexed.add`` returned.
        """
        text, index = indexed.text, indexed.index
        rows = np.array([index.row(item) for item in text.items])
        paths = item_token_ids(self.tokenizer, index)[rows]
        builder = PromptBuilder(self.tokenizer, paths, text, self.builder.settings)
        return Catalogue(text, index, self.tokenizer, paths, self.row_of_id, builder, indexed, self.user_texts)


class GenerativeDataset(SequentialSplitDataset):
    """RecBole's sequential dataset that carries a ``catalogue`` once ``prepare`` has been called."""

    catalogue: Catalogue | None = None

    def index_items(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> IndexedItems:
        """Build (or load) text, embeddings and item index.

        Args:
            timer: Gets the seconds of each stage.
            parts: The split's datasets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose index is to be used; None builds it.
        """
        return index_items(self.config, self, parts[0], timer, saved)

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set ``catalogue`` of this dataset and of its parts: text, index, tokenizer and prompts.

        Args:
            timer: Gets the seconds of each stage.
            parts: As for ``index_items``.
            saved: Folder of a finished run whose index and tokenizer are to be used; None builds them.
        """
        user_settings = settings_from(UserTextSettings, self.config)  # refused before the long stages
        indexed = self.index_items(timer, parts, saved)
        self.catalogue = build_catalogue(self.config, self, indexed, timer, saved)
        if USER_TASKS & set(self.config["tasks"]):
            with timer("user_texts"):
                texts = self._user_texts(user_settings, self.catalogue, parts[0], saved)
            self.catalogue = replace(self.catalogue, user_texts=texts)
        for part in parts:
            part.catalogue = self.catalogue

    def user_text_options(self) -> dict[str, Any]:
        """Return where users' texts come from and how they are made: arguments of every function that reads them."""
        config = self.config
        return {
            "data_folder": Path(self.dataset_path),
            "dataset_name": self.dataset_name,
            "cache_dir": Path(config["cache_dir"]),
            "seed": config["seed"],
            "device": str(config["device"]),
            "show_progress": bool(config["show_progress"]),
            "user_field": self.uid_field,
            "item_field": self.iid_field,
            "separator": config["field_separator"],
            "encoding": config["encoding"],
        }

    def _user_texts(
        self, settings: UserTextSettings, catalogue: Catalogue, train: Any, saved: Path | None
    ) -> UserTexts:
        users = self.field2id_token[self.uid_field]
        return load_user_texts(
            settings,
            train_sequences={str(users[u]): catalogue.row_of_id[i] for u, i in training_sequences(train).items()},
            item_text=catalogue.text,
            max_history=self.config["MAX_ITEM_LIST_LENGTH"],
            time_field=self.time_field,
            saved=saved,
            **self.user_text_options(),
        )

    def sequences(self) -> Sequences:
        """Return the samples of this (training) dataset in catalogue rows, each user's together and in time order."""
        assert self.catalogue is not None
        rows = self.inter_feat  # in order of time, and of users unless all interactions were split together
        rows = rows[torch.from_numpy(np.argsort(rows[self.uid_field].numpy(), kind="stable"))]
        users = rows[self.uid_field].numpy()
        lengths = rows[self.item_list_length_field].numpy()
        row_of_id = self.catalogue.row_of_id
        histories = row_of_id[rows[f"{self.iid_field}{self.config['LIST_SUFFIX']}"].numpy()]
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        counts = np.diff(np.r_[starts, len(users)])
        ends = np.repeat(starts + counts - 1, counts)
        return Sequences(
            histories=histories,
            lengths=lengths,
            targets=row_of_id[rows[self.iid_field].numpy()],
            from_end=ends - np.arange(len(users)),
            user_samples=np.repeat(counts, counts),
        )


def build_catalogue(
    config: Any, dataset: Any, indexed: IndexedItems, timer: StageTimer, saved: Path | None
) -> Catalogue:
    """Add tokenizer and prompts to the indexed items.

    Args:
        config: The experiment's configuration.
        dataset: The whole dataset, filtered and remapped.
        indexed: Text and index of the items.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run to take the tokenizer from, or None.

    Raises:
        UserError: For a tokenizer that cannot be loaded or extended, and wrong options of the instruction data.
    """
    instruction = settings_from(InstructionSettings, config)
    text, index = indexed.text, indexed.index
    with timer("tokenizer"):
        tokenizer = _tokenizer_of(config, text, index, saved)
    rows = np.array([index.row(item) for item in text.items])
    paths = item_token_ids(tokenizer, index)[rows]
    known_items = dataset.field2id_token[dataset.iid_field][1:]
    row_of_id = np.array([-1] + [text.rows[str(item)] for item in known_items], dtype=np.int64)
    builder = PromptBuilder(tokenizer, paths, text, instruction)
    return Catalogue(text, index, tokenizer, paths, row_of_id, builder, indexed)


def _tokenizer_of(config: Any, text: ItemText, index: ItemIndex, saved: Path | None) -> Any:
    if saved:
        return load_tokenizer(saved / "tokenizer", "evaluate")
    if config["base_model"]:
        tokenizer = load_tokenizer(config["base_model"])
    else:
        tokenizer = train_tokenizer(_corpus(text), config["vocab_size"])
    add_index_tokens(tokenizer, index.index_tokens())
    return tokenizer


def _corpus(text: ItemText) -> Sequence[str]:
    return [part for pair in zip(text.titles, text.descriptions, strict=True) for part in pair if part]


def rows_of_items(catalogue: Catalogue, items: Sequence[str]) -> np.ndarray:
    """Return the catalogue rows of item tokens.

    Raises:
        UserError: Naming the first token that the catalogue does not have.
    """
    unknown = [item for item in items if item not in catalogue.text.rows]
    if unknown:
        raise UserError(
            f"{len(unknown)} item(s) are not in the catalogue, e.g. {unknown[0]!r}. "
            "Item tokens are the raw ids of the data set's .inter and .item files, as strings."
        )
    return np.array([catalogue.text.rows[item] for item in items], dtype=np.int64)
