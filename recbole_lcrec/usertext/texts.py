"""The users' texts as values: what the tasks itemsearch and preferenceobtain are made of.

All rows are rows of the catalogue. Nothing here knows a user's validation or test item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Intention:
    """What a user was looking for before taking one item, as queries in words.

    Attributes:
        target: Row of the item that answers the queries.
        history: Rows of the items before it, oldest first; may be empty.
        queries: At least one query; all say the same in different words.
    """

    target: int
    history: tuple[int, ...]
    queries: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.queries and all(self.queries), "an intention needs a query, and its queries need words"


@dataclass(frozen=True)
class Preferences:
    """What a user likes, in words.

    Attributes:
        history: Rows of the items that show it, oldest first; at least one.
        texts: At least one text; all say the same in different words.
    """

    history: tuple[int, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.history, "preferences show in a history"
        assert self.texts and all(self.texts), "preferences need a text, and their texts need words"


@dataclass(frozen=True)
class UserTexts:
    """The texts that training may use.

    Attributes:
        preferences: User token -> preferences, in the order of the training sequences.
        intentions: User token -> intention, in the same order.
        source: Where the texts come from, for messages and the log.
        counts: How much was used and how much was left out, for the log.
    """

    preferences: Mapping[str, Preferences]
    intentions: Mapping[str, Intention]
    source: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there are any texts."""
        return bool(self.preferences or self.intentions)


NO_USER_TEXTS = UserTexts({}, {}, "user_text=none")
