"""What a language model is asked for a user's texts (the paper has GPT-3.5 write them from reviews)."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext.jobs import INTENTION, Job

_ITEMS_SHOWN = 10
_TITLE_WORDS, _DESCRIPTION_WORDS, _REVIEW_WORDS = 16, 40, 60

_INTRODUCTION = {
    INTENTION: "A user chose this item:",
    "preferences": "A user chose these items, oldest first:",
}
_QUESTION = {
    INTENTION: (
        "Before choosing it, the user searched for it in a shop. Write two different search queries that the user "
        "could have typed. Say in plain words what the user wanted. Do not use the item's name. Write one query per "
        "line and nothing else."
    ),
    "preferences": (
        "Say in one or two sentences what this user likes: kinds of items, brands, properties, purposes. Do not list "
        "the items. Write the sentences and nothing else."
    ),
}
_ANSWER = {INTENTION: "Queries:", "preferences": "The user's preferences:"}


def wording() -> list[str]:
    """Return all fixed text, as part of a cache key: answers to other wording are of no use."""
    return [*_INTRODUCTION.values(), *_QUESTION.values(), *_ANSWER.values()]


def item_lines(job: Job, text: ItemText) -> list[str]:
    """Return one line per item of a job that has a text or a review, oldest first, for the latest ten."""
    lines = []
    for row, review in zip(job.items, job.reviews, strict=True):
        title, description = _cut(text.titles[row], _TITLE_WORDS), _cut(text.descriptions[row], _DESCRIPTION_WORDS)
        parts = [part for part in (title, description) if part]
        if review:
            parts.append(f'The user says: "{_cut(review, _REVIEW_WORDS)}"')
        if parts:
            lines.append("- " + ". ".join(parts))
    return lines[-_ITEMS_SHOWN:]


def prompt(kind: str, lines: Sequence[str]) -> tuple[str, str]:
    """Return the request, and how the answer begins (for models that continue a text instead of answering)."""
    return "\n".join([_INTRODUCTION[kind], *lines, "", _QUESTION[kind]]), _ANSWER[kind]


def _cut(text: str, words: int) -> str:
    return " ".join(text.split(" ")[:words])[: 12 * words].strip()
