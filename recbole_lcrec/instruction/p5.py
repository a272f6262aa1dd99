"""Prompts of P5 in our own words, and the data module of models that are asked with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.dataset import WordsDataset
from recbole_lcrec.instruction.prompt_settings import PromptSettings
from recbole_lcrec.instruction.prompts import PromptBuilder
from recbole_lcrec.instruction.templates import Template
from recbole_lcrec.instruction.tokenizer import TokenizerSettings, trained_tokenizer
from recbole_lcrec.utils.errors import Mistakes, shortened

UNKNOWN_USER = "somebody"
"""What an unknown user is called in a prompt."""


def _all(*instructions: str) -> tuple[Template, ...]:
    return tuple(Template(instruction, "{index}") for instruction in instructions)


P5_TEMPLATES: dict[str, tuple[Template, ...]] = {
    "sequential": _all(
        "Considering that {user} has bought {history} , what comes next ?",
        "{user} chose these items in order : {history} . Name the item that follows .",
        "So far {user} has {history} . Which item should be offered now ?",
        "The record of {user} reads {history} . How does it go on ?",
        "After {history} , what will {user} want ?",
        "Which item fits {user} , who took {history} before ?",
        "Look at {history} , the items of {user} , and recommend one more .",
        "Given the history {history} of {user} , predict the next item .",
        "If {user} already has {history} , what is bought afterwards ?",
        "Find the item that {user} will pick once {history} are bought .",
    ),
    "direct": _all(
        "Name an item for {user} .",
        "Which item would {user} like ?",
        "What is worth showing to {user} ?",
        "Choose something for {user} from the catalogue .",
        "{user} is here . What do you offer ?",
    ),
}
"""Task -> wordings; the first of ``sequential`` is the one that evaluation uses by default."""


@dataclass(frozen=True)
class P5Settings(StageSettings):
    """Options of the prompts; each is explained in properties/model/P5CID.yaml.

    Raises:
        UserError: Without ``sequential``, the task that is evaluated, or for a repeated task.
    """

    p5_tasks: list[str]
    history_separator: str
    max_length: int

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        mistakes.expect(
            "sequential" in self.p5_tasks and len(set(self.p5_tasks)) == len(self.p5_tasks),
            f"p5_tasks: expected 'sequential' among them and each once, found {shortened(self.p5_tasks)}.",
        )

    @property
    def templates(self) -> tuple[Template, ...]:
        """The wordings that training draws from, those of ``sequential`` first."""
        return tuple(t for task in P5_TEMPLATES if task in self.p5_tasks for t in P5_TEMPLATES[task])


def user_name(token: str) -> str:
    """Return a user's name in prompts; ``token`` is the raw user token."""
    return f"user_{token}"


class P5Dataset(WordsDataset):
    """The data module of P5-CID: index, tokenizer and prompts."""

    def prompt_builder(self, tokenizer: Any, paths: np.ndarray, text: ItemText) -> PromptBuilder:
        """Return the prompt builder: the wording alone, with nothing before or after it."""
        settings = settings_from(P5Settings, self.config)
        return PromptBuilder(
            tokenizer,
            paths,
            text,
            PromptSettings(settings.history_separator, settings.max_length, 1, 0.0, "tokens"),
            frame=("", ""),
        )

    def new_tokenizer(self, text: ItemText) -> Any:
        """Return a tokenizer trained on the wordings and the users' names."""
        users = [user_name(str(token)) for token in self.field2id_token[self.uid_field][1:]]
        wording = [template.instruction for templates in P5_TEMPLATES.values() for template in templates]
        size = settings_from(TokenizerSettings, self.config).vocab_size
        cache_dir = Path(RunOptions(self.config).cache_dir)
        return trained_tokenizer([*users, UNKNOWN_USER], size, frame=(), wording=wording, cache_dir=cache_dir)
