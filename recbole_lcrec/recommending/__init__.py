"""A trained model in use: recommendations, search, neighbours and explanations, from Python or as a command."""

from recbole_lcrec.recommending.recommender import Recommender
from recbole_lcrec.recommending.results import (
    CodeMeaning,
    Explanation,
    Influence,
    ItemList,
    Recommendations,
    ScoredItem,
    Step,
)

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
