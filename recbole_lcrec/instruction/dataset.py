"""The data module of generative models: RecBole's split, with the catalogue's text, index and prompts beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.data.split import SequentialSplitDataset
from recbole_lcrec.data.text import ItemText, load_item_text
from recbole_lcrec.embedding import EmbeddingSettings, embed_items
from recbole_lcrec.errors import UserError
from recbole_lcrec.index import IndexSettings, ItemIndex, build_index, check_capacity, load_index
from recbole_lcrec.instruction.prompts import InstructionSettings, PromptBuilder
from recbole_lcrec.instruction.samples import Sequences
from recbole_lcrec.instruction.tokenizer import add_index_tokens, item_token_ids, load_tokenizer, train_tokenizer
from recbole_lcrec.quantizer import QuantizerSettings
from recbole_lcrec.stages import StageTimer

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
        index_report: What is known of the index's quality (empty for an index that was loaded).
    """

    text: ItemText
    index: ItemIndex
    tokenizer: Any
    paths: np.ndarray
    row_of_id: np.ndarray
    builder: PromptBuilder
    index_report: dict[str, Any]


class GenerativeDataset(SequentialSplitDataset):
    """RecBole's sequential dataset that carries a ``catalogue`` once ``prepare`` has been called."""

    catalogue: Catalogue | None = None

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Build (or load) text, embeddings, index, tokenizer and prompts, for this dataset and its parts.

        Args:
            timer: Gets the seconds of each stage.
            parts: The split's datasets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose index and tokenizer are to be used; None builds them.
        """
        self.catalogue = build_catalogue(self.config, self, timer, saved)
        for part in parts:
            part.catalogue = self.catalogue

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


def build_catalogue(config: Any, dataset: Any, timer: StageTimer, saved: Path | None) -> Catalogue:
    """Run the stages from item text to prompts.

    Args:
        config: The experiment's configuration.
        dataset: The whole dataset, filtered and remapped.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run to take index and tokenizer from, or None.

    Raises:
        UserError: For missing text, a broken index file, and whatever else the stages refuse.
    """
    instruction = settings_from(InstructionSettings, config)
    index_settings = settings_from(IndexSettings, config)
    known_items = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    with timer("text"):
        text = load_item_text(
            Path(dataset.dataset_path) / f"{dataset.dataset_name}.item",
            known_items,
            config["item_text_fields"],
            item_field=dataset.iid_field,
            separator=config["field_separator"],
            encoding=config["encoding"],
            text_required=not (saved or index_settings.index_file or config["text_encoder"].startswith("file:")),
            cold_items=config["cold_items"],
        )
    index, report = _index_of(config, text, index_settings, timer, saved)
    with timer("tokenizer"):
        tokenizer = _tokenizer_of(config, text, index, saved)
    rows = np.array([index.row(item) for item in text.items])
    paths = item_token_ids(tokenizer, index)[rows]
    row_of_id = np.array([-1] + [text.rows[item] for item in known_items], dtype=np.int64)
    builder = PromptBuilder(tokenizer, paths, text, instruction)
    return Catalogue(text, index, tokenizer, paths, row_of_id, builder, report)


def _index_of(
    config: Any, text: ItemText, settings: IndexSettings, timer: StageTimer, saved: Path | None
) -> tuple[ItemIndex, dict[str, Any]]:
    quantizer = settings_from(QuantizerSettings, config)
    source = saved / "index.json" if saved else settings.index_file
    if source:
        with timer("index"):
            index = load_index(
                Path(source),
                collisions="error" if saved else settings.index_collisions,
                required_items=text.items,
                codebook_size=quantizer.codebook_size,
            )
        logger.info("Item index: %d items, %d levels, from %s.", len(index.items), len(index.level_sizes), source)
        return index, {}
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
    return built.index, {**built.report, "folder": str(built.folder)}


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
            f"{len(unknown)} item(s) of the history are not in the catalogue, e.g. {unknown[0]!r}. "
            "Item tokens are the raw ids of the data set's .inter and .item files, as strings."
        )
    return np.array([catalogue.text.rows[item] for item in items], dtype=np.int64)
