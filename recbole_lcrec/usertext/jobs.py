"""What a generator is asked to put in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INTENTION: Literal["intention"] = "intention"
PREFERENCES: Literal["preferences"] = "preferences"


@dataclass(frozen=True)
class Job:
    """One text to write.

    Attributes:
        kind: An "intention" is a query that the only item answers; "preferences" are shown by all the items.
        user: User token.
        items: Catalogue rows, oldest first.
        reviews: The user's review of each item, "" if there is none.
    """

    kind: Literal["intention", "preferences"]
    user: str
    items: tuple[int, ...]
    reviews: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.items and len(self.items) == len(self.reviews), "one review, or none, per item"
        assert self.kind == PREFERENCES or len(self.items) == 1, "an intention is for one item"
