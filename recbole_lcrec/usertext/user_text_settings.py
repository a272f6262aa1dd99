"""Options of the users' texts."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_lcrec.usertext.generators import GENERATORS
from recbole_lcrec.utils.errors import Mistakes, shortened

AUTO, FILE, NONE = "auto", "file", "none"
"""Values of ``user_text`` that name no generator."""


_MOST = {"user_text_batch_size": 2**20, "user_text_max_tokens": 2**20}


@dataclass(frozen=True)
class UserTextSettings:
    """Options of the users' texts; each is explained in properties/model/LCRec.yaml.

    Raises:
        UserError: For an unknown source or a number out of its range.
    """

    user_text: str
    user_text_batch_size: int
    user_text_max_tokens: int
    review_text_fields: list[str]

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        generator = GENERATORS.get(self.kind)
        known = self.user_text in (AUTO, FILE, NONE) or generator is not None
        if not known or (generator is not None and generator.takes_source != bool(self.source)):
            forms = ", ".join([AUTO, FILE, *(generator.form for generator in GENERATORS.values())])
            mistakes.add(f"user_text={self.user_text}: no such source of user texts. Expected {forms}, or {NONE}.")
        mistakes.expect_range(self, dict.fromkeys(_MOST, 1), _MOST)
        mistakes.expect(
            all(isinstance(name, str) for name in self.review_text_fields),
            f"review_text_fields: expected names of columns, found {shortened(self.review_text_fields)}.",
        )
        mistakes.finish()

    @property
    def kind(self) -> str:
        """What stands before the colon."""
        return self.user_text.partition(":")[0]

    @property
    def source(self) -> str:
        """The model: what stands behind the colon."""
        return self.user_text.partition(":")[2]
