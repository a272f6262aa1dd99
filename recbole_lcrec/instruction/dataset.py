"""The data modules of models that read words: RecBole's split with the catalogue and its prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.data.stages import StagedDataset
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.embedding.items import rows_of_ids
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.index.catalogue import Catalogue, CatalogueDataset, path_ids
from recbole_lcrec.index.pipeline import IndexedItems
from recbole_lcrec.instruction.prompt_settings import InstructionSettings
from recbole_lcrec.instruction.prompts import PromptBuilder
from recbole_lcrec.instruction.samples import Sequences
from recbole_lcrec.instruction.templates import USER_TASKS
from recbole_lcrec.instruction.tokenizer import (
    TokenizerSettings,
    add_index_tokens,
    index_token_ids,
    load_tokenizer,
    trained_tokenizer,
)
from recbole_lcrec.usertext import NO_USER_TEXTS, UserTexts, UserTextSettings, check_file, load_user_texts
from recbole_lcrec.utils.timer import StageTimer


@dataclass(frozen=True)
class InstructionCatalogue(Catalogue):
    """A catalogue for prompts in words.

    Attributes:
        tokenizer: Knows the words of the text and all index tokens.
        builder: The prompt builder.
        user_texts: What the users say, for training.
    """

    tokenizer: Any
    builder: PromptBuilder
    user_texts: UserTexts = NO_USER_TEXTS

    def extended(self, indexed: IndexedItems) -> InstructionCatalogue:
        """Return this catalogue with new items after its own; the tokens of their paths exist already.

        Args:
            indexed: What ``self.indexed.add`` returned.
        """
        paths = path_ids(indexed.index, self.code_ids, indexed.text.items)
        return replace(self, indexed=indexed, paths=paths, builder=self.builder.of_items(paths, indexed.text))


class TokenizedData(StagedDataset):
    """A dataset with a tokenizer: a saved run's, that of ``base_model``, or one trained on the items' text."""

    def new_tokenizer(self, text: ItemText) -> Any:
        """Return a tokenizer trained on the material of the model's prompts, without index tokens."""
        raise TypeError(f"{type(self).__name__} does not implement new_tokenizer")

    def tokenizer_for(self, text: ItemText, saved: Path | None) -> Any:
        """Return the tokenizer for the items' text, which may be extended.

        Args:
            text: The items' text.
            saved: Folder of a finished run from which to take it, or None.

        Raises:
            UserError: If it cannot be loaded.
        """
        if saved:
            return load_tokenizer(saved / "tokenizer", "evaluate")
        base_model = settings_from(TokenizerSettings, self.config).base_model
        if base_model:
            return load_tokenizer(base_model)
        return copy.deepcopy(self.once("tokenizer", lambda: self.new_tokenizer(text), uses=["text"]))


class InstructionData(StagedDataset):
    """The material of training samples in words: each user's histories in catalogue rows, and the users' texts."""

    catalogue: Any = None

    def user_text_options(self) -> dict[str, Any]:
        """Return where users' texts come from and how to make them: arguments of every function that reads them."""
        return {"files": DataFiles.of(self), **RunOptions(self.config).making()}

    def _user_texts(self, catalogue: Any, train: Any, saved: Path | None) -> UserTexts:
        users = self.field2id_token[self.uid_field]

        def load() -> UserTexts:
            return load_user_texts(
                settings_from(UserTextSettings, self.config),
                train_sequences={str(users[u]): catalogue.row_of_id[i] for u, i in training_sequences(train).items()},
                item_text=catalogue.text,
                max_history=RunOptions(self.config).max_history,
                saved=saved,
                **self.user_text_options(),
            )

        return load() if saved else self.once("user_texts", load, uses=["text"])

    def sequences(self) -> Sequences:
        """Return the samples of this (training) dataset in catalogue rows, grouped by user and in time order."""
        assert self.catalogue is not None
        rows = self.inter_feat  # in time order, and grouped by user unless all interactions were split together
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


class WordsDataset(TokenizedData, CatalogueDataset):
    """A dataset whose catalogue has a tokenizer and a prompt builder.

    A subclass defines the settings of its prompts, and what the tokenizer is trained on if there is no ``base_model``
    to take it from.
    """

    def prompt_builder(self, tokenizer: Any, paths: np.ndarray, text: ItemText) -> PromptBuilder:
        """Return the prompt builder of a model's prompts."""
        raise TypeError(f"{type(self).__name__} does not implement prompt_builder")

    def make_catalogue(self, indexed: IndexedItems, timer: StageTimer, saved: Path | None) -> InstructionCatalogue:
        """Return the catalogue of indexed items, with tokenizer and prompts.

        Args:
            indexed: Text and index of the items.
            timer: Gets the seconds of each stage.
            saved: Folder of a finished run from which to take the tokenizer, or None.

        Raises:
            UserError: For a tokenizer that cannot be loaded or extended, and wrong prompt options.
        """
        text, index = indexed.text, indexed.index
        with timer("tokenizer"):
            tokenizer = self._tokenizer(text, index, saved)
        code_ids = index_token_ids(tokenizer, index)
        paths = path_ids(indexed.index, code_ids, indexed.text.items)
        builder = self.prompt_builder(tokenizer, paths, text)
        return InstructionCatalogue(indexed, code_ids, rows_of_ids(self, text), paths, tokenizer, builder)

    def _tokenizer(self, text: ItemText, index: ItemIndex, saved: Path | None) -> Any:
        tokenizer = self.tokenizer_for(text, saved)
        if not saved:
            add_index_tokens(tokenizer, index.index_tokens())
        return tokenizer


class LCRecDataset(InstructionData, WordsDataset):
    """The data module of LC-Rec: instruction prompts, and the users' texts."""

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set ``catalogue`` of this dataset and of its parts: text, index, tokenizer, prompts and users' texts.

        Args:
            timer: Gets the seconds of each stage.
            parts: As for ``index_items``.
            saved: Folder of a finished run whose index and tokenizer to use; None builds them.
        """
        settings = settings_from(UserTextSettings, self.config)  # refused before the long stages
        wanted = USER_TASKS & set(settings_from(InstructionSettings, self.config).tasks)
        if wanted and saved is None:
            check_file(settings, DataFiles.of(self))
        catalogue = self.make_catalogue(self.index_items(timer, parts, saved), timer, saved)
        if wanted:
            with timer("user_texts"):
                texts = self._user_texts(catalogue, parts[0], saved)
            catalogue = replace(catalogue, user_texts=texts)
        self.share(catalogue, parts)

    def prompt_builder(self, tokenizer: Any, paths: np.ndarray, text: ItemText) -> PromptBuilder:
        """Return the prompt builder of the alignment tasks."""
        return PromptBuilder(tokenizer, paths, text, settings_from(InstructionSettings, self.config))

    def new_tokenizer(self, text: ItemText) -> Any:
        """Return a tokenizer trained on the items' text and the wordings of the tasks."""
        corpus = [part for pair in zip(text.titles, text.descriptions, strict=True) for part in pair if part]
        size = settings_from(TokenizerSettings, self.config).vocab_size
        return trained_tokenizer(corpus, size, cache_dir=Path(RunOptions(self.config).cache_dir))
