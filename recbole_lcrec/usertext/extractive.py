"""Texts put together from the catalogue's own words: no model, no network, the same on every machine.

In the paper, a large LM writes intentions and preferences from reviews. Here an intention names what is characteristic
of the item (its kind, its brand, the words that distinguish it), and preferences name what a user's items have in
common, in phrasings drawn by seed and user.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext.jobs import INTENTION, Job
from recbole_lcrec.usertext.words import Trait, Traits, chosen, draw, listed

Terms = Sequence[tuple[float, str]]
"""Words with their weights, highest first."""

_SEARCHES = ("I am looking for {}", "Show me {}", "I would like {}", "Do you have {}", "Please find {}", "I want {}")
_DETAILS = (", with {}", ", something about {}", ": {}", ", and it should have to do with {}", ". It is about {}")
_MAKERS = (" by {}", " from {}")

_LIKES = ("Likes {}", "Interested in {}", "Goes for {}", "Comes back to {}", "Drawn to {}")
_LIKED_MAKERS = (", often by {}", ", preferably from {}", ", with a liking for {}")
_LIKED_DETAILS = ("; looks for {}", "; cares about {}", "; typical words: {}", ", especially {}")


_VERSION = 1
"""Raise this with every change to this module or ``words`` that changes a text: it is part of the cache's keys."""


def cache_key(text: ItemText, seed: int) -> list[Any]:
    """Return what the texts depend on, apart from the jobs."""
    # one string: a key made of a million small parts would take as long as some of the texts
    read = json.dumps([text.titles, text.descriptions, sorted(text.columns.items())])
    return [_VERSION, metadata.version("scikit-learn"), seed, read]


def generate(jobs: Sequence[Job], text: ItemText, seed: int) -> list[tuple[str, ...]]:
    """Return up to two texts per job; none for jobs whose items have no text.

    Args:
        jobs: The texts to write.
        text: The catalogue's text.
        seed: Draws the phrasing, together with the user.
    """
    traits = Traits(text)
    of_item = lru_cache(maxsize=None)(traits.of)
    texts = []
    for job in jobs:
        items = [of_item(row) for row in job.items]
        reviews = [traits.terms(review) for review in job.reviews if review]
        if job.kind == INTENTION:
            written = _intention(items[0], reviews, seed, job.user)
        else:
            written = _preferences(items, reviews, traits.rarity, seed, job.user)
        texts.append(tuple(dict.fromkeys(written)))
    return texts


def _intention(item: Trait, reviews: Sequence[Terms], seed: int, user: str) -> list[str]:
    """Return a query by kind, and one by kind and brand with further words."""
    words = chosen(_summed([item.terms, *reviews]), 6, but=(*item.kinds, item.brand))
    what = listed(item.kinds) or (words.pop(0) if words else "")
    if not what and not item.brand:
        return [_phrase(_SEARCHES, item.name, seed, user, 0) + "."] if item.name else []
    what = what or "something"
    queries = []
    for number, some in enumerate((words[:3], words[3:] or words[:2])):
        query = _phrase(_SEARCHES, what, seed, user, number)
        if item.brand and (number or what == "something"):
            query += _phrase(_MAKERS, item.brand, seed, user, number)
        queries.append(query + _phrase(_DETAILS, listed(some), seed, user, number) + ".")
    return queries


def _preferences(
    items: Sequence[Trait], reviews: Sequence[Terms], rarity: Mapping[str, float], seed: int, user: str
) -> list[str]:
    """Return two texts: the user's most frequent kinds and brands, each with other telling words."""
    all_kinds = [kind for item in items for kind in item.kinds]
    kinds = _most_frequent(all_kinds, 2, weights=rarity)
    brands = _most_frequent([item.brand for item in items], 2, least=2 if len(items) > 2 else 1)
    words = chosen(_summed([*(item.terms for item in items), *reviews]), 6, but=(*all_kinds, *brands))
    if not kinds:
        kinds, words = words[:2], words[2:]
    kinds = kinds or [f'"{name}"' for name in [item.name for item in items if item.name][-2:]]
    if not kinds:
        return []
    texts = []
    for number, some in enumerate((words[:3], words[3:] or words[:2])):
        text = _phrase(_LIKES, listed(kinds), seed, user, number)
        text += _phrase(_LIKED_MAKERS, listed(brands), seed, user, number)
        texts.append(text + _phrase(_LIKED_DETAILS, listed(some), seed, user, number) + ".")
    return texts


def _phrase(phrasings: tuple[str, ...], words: str, seed: int, user: str, number: int) -> str:
    """Return ``words`` in the phrasing drawn for a user's text with this number; "" for no words."""
    return phrasings[draw(seed, user, number, phrasings[0], below=len(phrasings))].format(words) if words else ""


def _summed(lists: Sequence[Terms]) -> list[tuple[float, str]]:
    """Add up the weights of equal terms; highest first."""
    total: dict[str, float] = {}
    for terms in lists:
        for weight, term in terms:
            total[term] = total.get(term, 0.0) + weight
    return sorted(((weight, term) for term, weight in total.items()), key=lambda pair: (-pair[0], pair[1]))


def _most_frequent(
    words: Sequence[str], limit: int, *, least: int = 1, weights: Mapping[str, float] | None = None
) -> list[str]:
    """Return the words that occur most often, weighted (of equals, the latest), each at least ``least`` times."""
    weights = weights or {}
    counts = Counter(filter(None, words))
    last = {word: place for place, word in enumerate(words)}
    ranked = sorted(
        (word for word in counts if counts[word] >= least),
        key=lambda word: (-counts[word] * weights.get(word, 1.0), -last[word]),
    )
    return ranked[:limit]
