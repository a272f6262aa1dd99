"""Options of the users' texts."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_lcrec.config import StageSettings
from recbole_lcrec.usertext.generators import GENERATORS
from recbole_lcrec.utils.errors import Mistakes

AUTO, FILE, NONE = "auto", "file", "none"
"""Values of ``user_text`` that name no generator."""


@dataclass(frozen=True)
class UserTextSettings(StageSettings):
    """Options of the users' texts; each is explained in properties/user_texts.yaml.

    Raises:
        UserError: For an unknown source.
    """

    user_text: str
    user_text_batch_size: int
    user_text_max_tokens: int
    review_text_fields: list[str]

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        generator = GENERATORS.get(self.kind)
        known = self.user_text in (AUTO, FILE, NONE) or generator is not None
        if not known or (generator is not None and generator.takes_source != bool(self.source)):
            forms = ", ".join([AUTO, FILE, *(generator.form for generator in GENERATORS.values())])
            mistakes.add(f"user_text={self.user_text}: no such source of user texts. Expected {forms}, or {NONE}.")

    @property
    def kind(self) -> str:
        """The part before the colon."""
        return self.user_text.partition(":")[0]

    @property
    def source(self) -> str:
        """The model: the part after the colon."""
        return self.user_text.partition(":")[2]
