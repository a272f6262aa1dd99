"""A trained model in use: recommendations, search, neighbours and explanations, from Python or as a command.

The names below are imported when they are first used: the command line is read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_lcrec.recommending.lists import (
        CodeMeaning,
        Explanation,
        Influence,
        ItemList,
        Recommendations,
        ScoredItem,
        Step,
    )
    from recbole_lcrec.recommending.recommender import Recommender

__all__ = [
    "CodeMeaning",
    "Explanation",
    "Influence",
    "ItemList",
    "Recommendations",
    "Recommender",
    "ScoredItem",
    "Step",
]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        from recbole_lcrec.recommending import recommender

        return recommender.Recommender
    if name in __all__:
        from recbole_lcrec.recommending import lists

        return getattr(lists, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
