"""A small shop with users, for the tests of user texts."""

from __future__ import annotations

from typing import Any

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext import UserTextSettings

ROWS = [  # title, categories, brand, description
    ("Copper pipe cutter, 12 inch", "Tools,Plumbing,Pipe Cutters", "Acme", "cuts copper pipe without burrs"),
    ("Steel pipe wrench", "Tools,Plumbing,Pipe Wrenches", "Acme", "grips steel pipe firmly"),
    ("Oak plank", "Wood,Planks", "Forest Co", "solid oak for shelves and tables"),
    ("Pine plank", "Wood,Planks", "Forest Co", "soft pine for shelves and toys"),
    ("Garden hose 30m", "Garden,Hoses", "", "waters flower beds"),
    ("", "", "", ""),
    ("Brass hose nozzle", "Garden,Hoses", "Rain", "sprays water over flower beds"),
    ("天気予報の本", "", "", ""),
]
ITEMS = tuple(f"i{row}" for row in range(len(ROWS)))


def make_shop() -> ItemText:
    """Return the text of a small shop: an item without any, and one in a script without blanks."""
    titles, categories, brands, details = (tuple(column) for column in zip(*ROWS, strict=True))
    descriptions = tuple(". ".join(filter(None, parts)) for parts in zip(details, brands, categories, strict=True))
    columns = {"title": titles, "categories": categories, "brand": brands, "description": details}
    return ItemText(ITEMS, "title", ("description", "brand", "categories"), titles, descriptions, columns)


SEQUENCES = {"a": [0, 1, 2, 3], "b": [6, 4], "c": [2], "d": [5, 5], "e": [5, 7], "f": [3, 2, 1, 0, 4, 6]}


def options(**changes: Any) -> UserTextSettings:
    given: dict[str, Any] = {
        "user_text": "auto",
        "user_text_batch_size": 4,
        "user_text_max_tokens": 8,
        "review_text_fields": ["summary", "review"],
        **changes,
    }
    return UserTextSettings(**given)
