"""Texts put together from the catalogue's own words: no model, no network, the same on every machine.

The paper has a large LM write intentions and preferences from reviews. Here an intention names what is characteristic
of the item (its kind, its brand, the words that tell it from others), and preferences name what a user's items have in
common, in phrasings that are drawn by seed and user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext.jobs import INTENTION, Job
from recbole_lcrec.usertext.words import Trait, Traits, chosen, draw, listed

_SEARCHES = ("I am looking for {}", "Show me {}", "I would like {}", "Do you have {}", "Please find {}", "I want {}")
_DETAILS = (", with {}", ", something about {}", ": {}", ", and it should have to do with {}", " for {}")
_MAKERS = (" by {}", " from {}")

_LIKES = ("Likes {}", "Interested in {}", "Goes for {}", "Comes back to {}", "Drawn to {}")
_LIKED_MAKERS = (", often by {}", ", preferably from {}", ", with a liking for {}")
_LIKED_DETAILS = ("; looks for {}", "; cares about {}", "; typical words: {}", ", especially {}")


def generate(jobs: Sequence[Job], text: ItemText, seed: int) -> list[tuple[str, ...]]:
    """Return up to two texts per job; none where no item of the job has any text.

    Args:
        jobs: The texts that are wanted.
        text: The catalogue's text.
        seed: Draws the phrasing, together with the user.
    """
    traits = Traits(text)
    of_item = lru_cache(maxsize=None)(traits.of)
    texts = []
    for job in jobs:
        items = [of_item(row) for row in job.items]
        reviews = [traits.terms(review) for review in job.reviews if review]
        write = _intention if job.kind == INTENTION else _preferences
        texts.append(tuple(dict.fromkeys(filter(None, write(items, reviews, seed, job.user)))))
    return texts


def _intention(items: list[Trait], reviews: list, seed: int, user: str) -> list[str]:
    """Return a query by kind, and one by kind and brand with further words."""
    item = items[0]
    words = chosen(_summed([item.terms, *reviews]), 6, but=(item.kind, item.brand))
    what = item.kind or (words.pop(0) if words else "")
    if not what and not item.brand:
        return [_phrase(_SEARCHES, item.name, seed, user, "name") + "."] if item.name else []
    what = what or "something"
    queries = []
    for number, some in enumerate((words[:3], words[3:] or words[:2])):
        query = _phrase(_SEARCHES, what, seed, user, number)
        if item.brand and (number or what == "something"):
            query += _phrase(_MAKERS, item.brand, seed, user, number)
        queries.append(query + _phrase(_DETAILS, listed(some), seed, user, number, "details") + ".")
    return queries


def _preferences(items: list[Trait], reviews: list, seed: int, user: str) -> list[str]:
    """Return two texts: the kinds and brands that come most often, each with other telling words."""
    kinds = _most_frequent([item.kind for item in items], 2)
    brands = _most_frequent([item.brand for item in items], 2, least=2 if len(items) > 2 else 1)
    words = chosen(_summed([item.terms for item in items] + reviews), 6, but=(*kinds, *brands))
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


def _phrase(phrasings: tuple[str, ...], words: str, *key: object) -> str:
    """Return ``words`` in one of the phrasings; "" for no words."""
    seed, *rest = key
    assert isinstance(seed, int)
    return phrasings[draw(seed, *rest, phrasings[0], below=len(phrasings))].format(words) if words else ""


def _summed(lists: Sequence[Sequence[tuple[float, str]]]) -> list[tuple[float, str]]:
    """Add up the weights of equal terms; highest first."""
    total: dict[str, float] = {}
    for terms in lists:
        for weight, term in terms:
            total[term] = total.get(term, 0.0) + weight
    return sorted(((weight, term) for term, weight in total.items()), key=lambda pair: (-pair[0], pair[1]))


def _most_frequent(words: Sequence[str], limit: int, *, least: int = 1) -> list[str]:
    """Return the words that come most often (of equals, the latest), each at least ``least`` times."""
    counts = Counter(filter(None, words))
    last = {word: place for place, word in enumerate(words)}
    ranked = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], -last[word]))
    return ranked[:limit]
