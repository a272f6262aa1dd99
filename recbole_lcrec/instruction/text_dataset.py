"""The data modules of models that rank candidates by their titles: RecBole's split with text and prompts, no index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import ItemText, ItemTextSettings
from recbole_lcrec.embedding.items import item_text, rows_of_ids
from recbole_lcrec.instruction.dataset import InstructionData, TokenizedData
from recbole_lcrec.instruction.prompt_settings import InstructionSettings
from recbole_lcrec.instruction.prompts import PromptBuilder
from recbole_lcrec.instruction.sources import NO, YES
from recbole_lcrec.instruction.templates import (
    RANKING_TEMPLATES,
    USER_TASKS,
    Template,
)
from recbole_lcrec.instruction.tokenizer import TokenizerSettings, trained_tokenizer
from recbole_lcrec.usertext import NO_USER_TEXTS, UserTexts, UserTextSettings
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.timer import StageTimer


@dataclass(frozen=True)
class RankingSettings(InstructionSettings):
    """Options of prompts without item indices; each is explained in properties/candidates.yaml."""

    templates: ClassVar[dict[str, tuple[Template, ...]]] = {
        name: templates for name, templates in RANKING_TEMPLATES.items() if name != "yesno"
    }
    recommending: ClassVar[tuple[str, ...]] = ("titlerec",)

    history_windows: bool = field(default=False, init=False)
    nest_histories: bool = field(default=False, init=False)
    history_separator: str = field(default="", init=False)
    history_input: str = field(default="tokens", init=False)


@dataclass(frozen=True)
class JudgementSettings(RankingSettings):
    """Options of TALLRec's prompts: a single task."""

    templates: ClassVar[dict[str, tuple[Template, ...]]] = {"yesno": RANKING_TEMPLATES["yesno"]}
    recommending: ClassVar[tuple[str, ...]] = ("yesno",)

    tasks: list[str] = field(default_factory=lambda: ["yesno"], init=False)
    task_weights: dict[str, float] | None = field(default=None, init=False)


@dataclass(frozen=True)
class TextCatalogue:
    """What a model without an item index knows about the items.

    Attributes:
        text: Text of every item, in catalogue order (a *row* is a position in it).
        tokenizer: Knows the words of the text.
        row_of_id: Catalogue row of each of RecBole's item ids, int64 [item_num]; -1 for the padding item 0.
        builder: The prompt builder; its text names an item without a title by its token.
        user_texts: What the users say, for training.
    """

    text: ItemText
    tokenizer: Any
    row_of_id: np.ndarray
    builder: PromptBuilder
    user_texts: UserTexts = NO_USER_TEXTS


class TextDataset(InstructionData, TokenizedData):
    """RecBole's sequential dataset that carries a ``TextCatalogue`` once ``prepare`` has been called."""

    settings_class: ClassVar[type[RankingSettings]] = RankingSettings

    def prepare(self, timer: StageTimer, parts: Sequence[Any], saved: Path | None = None) -> None:
        """Set ``catalogue`` of this dataset and of its parts: text, tokenizer, prompts and what the users say.

        Args:
            timer: Gets the seconds of each stage.
            parts: The split's datasets of training, validation and test; only the first is learned from.
            saved: Folder of a finished run whose tokenizer and user texts to use; None makes them.

        Raises:
            UserError: For data without item titles, and wrong options.
        """
        settings = settings_from(self.settings_class, self.config)
        uses_texts = bool(USER_TASKS & set(settings.tasks))
        if uses_texts:
            settings_from(UserTextSettings, self.config)  # refused before the long stages
        with timer("text"):
            text = self.once("text", self._text)
        named = replace(text, titles=names_of(text))
        with timer("tokenizer"):
            tokenizer = self.tokenizer_for(named, saved)
        builder = PromptBuilder(tokenizer, np.zeros((len(text.items), 0), np.int64), named, settings)
        catalogue = TextCatalogue(text, tokenizer, rows_of_ids(self, text), builder)
        if uses_texts:
            with timer("user_texts"):
                texts = self._user_texts(catalogue, parts[0], saved)
            catalogue = replace(catalogue, user_texts=texts)
        for part in (self, *parts):
            part.catalogue = catalogue

    def _text(self) -> ItemText:
        """Return the items' text.

        Raises:
            UserError: If no item has a title.
        """
        text = item_text(self.config, self, required=False)
        if not text.has_titles:
            fields = settings_from(ItemTextSettings, self.config).item_text_fields
            raise UserError(
                f"{RunOptions(self.config).model} reads the items' titles, and {DataFiles.of(self).path('item')} has "
                f"none. Expected a file with the column {self.iid_field}:token and one of {', '.join(fields)}; set "
                "item_text_fields if they have other names."
            )
        return text

    def new_tokenizer(self, text: ItemText) -> Any:
        """Return a tokenizer trained on the items' text and the wordings of the tasks in use."""
        settings = settings_from(self.settings_class, self.config)
        used = [template.instruction for task in settings.tasks for template in settings.templates[task]]
        # '", "' stands between the titles of a history
        wording = (*used, YES, NO, '"a", "b", "c"')
        size, cache_dir = settings_from(TokenizerSettings, self.config).vocab_size, RunOptions(self.config).cache_dir
        texts = [*text.titles, *filter(None, text.descriptions)]
        return trained_tokenizer(texts, size, wording=wording, cache_dir=Path(cache_dir))


class InstructRecDataset(TextDataset):
    """The data module of InstructRec."""


class TALLRecDataset(TextDataset):
    """The data module of TALLRec."""

    settings_class = JudgementSettings


def names_of(text: ItemText) -> tuple[str, ...]:
    """Return the items' names in prompts: their titles, or their tokens if they have none."""
    return tuple(title or f"item {item}" for title, item in zip(text.titles, text.items, strict=True))
