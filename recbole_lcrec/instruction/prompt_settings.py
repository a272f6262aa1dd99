"""Options of prompts and of the instruction data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from recbole_lcrec.config import StageSettings
from recbole_lcrec.instruction.templates import LCREC_TEMPLATES, Template
from recbole_lcrec.utils.errors import Mistakes, nearest


@dataclass(frozen=True)
class PromptSettings(StageSettings):
    """Prompt options of any model; they are explained in properties/model/<model>.yaml.

    Attributes:
        history_separator: Text between the items of a history.
        max_length: Most tokens of a prompt with its response.
        max_text_words: Most words that are used of a text.
        history_loss_weight: Weight of the loss on the items of a history.
        history_input: How a history gives an item: "tokens" as its path, "item" as one token that stands for it.
    """

    history_separator: str
    max_length: int
    max_text_words: int
    history_loss_weight: float
    history_input: str


@dataclass(frozen=True, kw_only=True)
class InstructionSettings(PromptSettings):
    """Options of the instruction data; each is explained in properties/model/LCRec.yaml.

    Attributes:
        templates: The model's tasks.
        recommending: Those of them that predict the next item of a history; at least one is needed.
    """

    templates: ClassVar[dict[str, tuple[Template, ...]]] = LCREC_TEMPLATES
    recommending: ClassVar[tuple[str, ...]] = ("seqrec", "nextitem")

    tasks: list[str]
    task_samples: int | dict[str, int | None] | None
    task_weights: dict[str, float] | None
    history_windows: bool
    nest_histories: bool

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        samples = self.task_samples if isinstance(self.task_samples, dict) else {}
        weights = self.task_weights or {}
        for option, names in (("tasks", self.tasks), ("task_samples", samples), ("task_weights", weights)):
            for name in map(str, names):
                known = self.templates
                mistakes.expect(
                    name in known, f"{option}: unknown task '{name}'.{nearest(name, known)} Known: {', '.join(known)}."
                )
        if not any(name in self.tasks for name in self.recommending):
            mistakes.add(f"tasks: expected {' or '.join(map(repr, self.recommending))} among them, which recommends.")

    @property
    def nests_histories(self) -> bool:
        """Whether samples of a user share a row; not with loss on histories, which each sample carries anew."""
        return self.nest_histories and not self.history_loss_weight and not self.history_windows

    def samples_per_epoch(self, task: str) -> int | None:
        """Return how many samples of ``task`` an epoch has; None means every sample once."""
        if isinstance(self.task_samples, dict):
            return self.task_samples.get(task)
        return self.task_samples

    def weight(self, task: str) -> float:
        """Return the factor for the loss weights of ``task``'s samples."""
        return float((self.task_weights or {}).get(task, 1.0))
