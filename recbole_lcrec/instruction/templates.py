"""The wording of the alignment tasks: one table, about as many templates per task as the paper has.

Placeholders: ``{history}`` the paths of the user's items, oldest first; ``{titles}`` their titles; ``{index}`` the
path of one item; ``{title}`` and ``{description}`` its text; ``{intention}`` what the user is looking for, and
``{preferences}`` what the user likes, both in words; ``{candidate}`` the title of an item that is asked about, and
``{answer}`` the answer, Yes or No. Template 0 of seqrec, of itemsearch and of the tasks that rank candidates is the
one for evaluation. ``nextitem`` has no words at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n"
)
RESPONSE_HEADER = "\n\n### Response:\n"

INDEX_FIELDS = frozenset({"history", "index"})
"""Placeholders that stand for index tokens; all others stand for words."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """One wording of a task: the instruction and the expected response.

    Attributes:
        instruction: What precedes the response.
        response: What to answer.
        framed: Whether the instruction stands between preamble and response header.
    """

    instruction: str
    response: str
    framed: bool = True

    @property
    def fields(self) -> frozenset[str]:
        """Names of the placeholders in the instruction and the response."""
        return frozenset(_PLACEHOLDER.findall(self.instruction + self.response))


@lru_cache(maxsize=1 << 10)
def pieces(text: str) -> tuple[tuple[bool, str], ...]:
    """Split a template text into (is placeholder, literal text or placeholder name)."""
    parts = _PLACEHOLDER.split(text)
    return tuple((bool(i % 2), part) for i, part in enumerate(parts) if part or i % 2)


def _all(response: str, *instructions: str) -> tuple[Template, ...]:
    return tuple(Template(instruction, response) for instruction in instructions)


SEQREC = _all(
    "{index}",
    "The user has interacted with these items in order: {history}. Predict the item that comes next.",
    "Here is a user's history, oldest first: {history}. Which item will the user choose next?",
    "Given the items {history}, recommend the next item for this user.",
    "A customer bought {history} one after the other. What will the customer buy next?",
    "After {history}, which item follows?",
    "Continue this sequence of items with one more item: {history}.",
    "Read the user's record {history} and name the most likely next item.",
    "The user's past choices are {history}. Suggest one item that fits what the user wants now.",
    "Someone who went through {history} is back. Which item should be shown first?",
    "You are a recommender. The history is {history}. Answer with the next item.",
    "Based on the order of the purchases {history}, work out the following purchase.",
    "In time order, this user took {history}. Guess the item taken after them.",
    "What would a user with the history {history} pick next?",
    "Look at the sequence {history}. Give the index of the item that continues it.",
    "These items were visited by one user: {history}. Find the item that will be visited next.",
    "From the interaction history {history}, infer the user's next interest and name an item for it.",
    "The last activities of a user are {history}. Recommend a single new item.",
)

ITEM2INDEX = (
    *_all(
        "{index}",
        "Which item is called \"{title}\"?",
        "Give the index of the item with the title \"{title}\".",
        "An item is named \"{title}\". Write its index.",
        "Find the item: {title}",
        "The title is \"{title}\". What is the index?",
        "Translate this title into an item index: {title}",
        "Someone asks for \"{title}\". Which item is meant?",
    ),
    *_all(
        "{index}",
        "Which item fits this description: {description}",
        "Give the index of the item that is described as follows: {description}",
        "An item is described by \"{description}\". Write its index.",
        "Read the description and name the item. {description}",
        "Find the item with these properties: {description}",
        "The description reads \"{description}\". What is the index?",
    ),
    *_all(
        "{index}",
        "Which item is called \"{title}\" and described as \"{description}\"?",
        "Title: {title}\nDescription: {description}\nGive the index of this item.",
        "An item named \"{title}\" has this description: {description} Write its index.",
        "Find the item. Its name is {title}. About it: {description}",
        "Use the title \"{title}\" and the description \"{description}\" to tell the item's index.",
        "What is the index of {title}, which is described so: {description}",
    ),
)  # fmt: skip

INDEX2ITEM = (
    *_all(
        "{title}",
        "What is the title of the item {index}?",
        "Name the item {index}.",
        "Write the title that belongs to {index}.",
        "The index is {index}. What is the item called?",
        "Translate the item index {index} into its title.",
        "How is the item {index} called in the catalogue?",
    ),
    *_all(
        "{description}",
        "Describe the item {index}.",
        "What can you say about the item {index}?",
        "Write the description of {index}.",
        "Give the details of the item with the index {index}.",
        "Which properties does the item {index} have?",
        "Tell a customer what {index} is like.",
    ),
    *_all(
        "{title}\n{description}",
        "Give the title and the description of the item {index}.",
        "What is {index}? Answer with its name and its details.",
        "Write the catalogue entry of the item {index}: title first, then description.",
        "Name the item {index} and describe it.",
        "Which item is {index}, and what is it like?",
    ),
)

FUSIONSEQREC = (
    *_all(
        "{title}",
        "The user has interacted with {history}. Write the title of the next item.",
        "After the items {history}, what is the name of the item that the user takes next?",
        "Given the history {history}, predict the next item and answer with its title.",
        "A customer bought {history}. How is the next purchase called?",
    ),
    *_all(
        "{description}",
        "The user has interacted with {history}. Describe the next item.",
        "After the items {history}, what will the next item be like?",
        "Given the history {history}, write a description of what the user looks for next.",
        "A customer bought {history}. Give the details of the next purchase.",
    ),
    *_all(
        "{index}",
        "The user has interacted with items of these titles: {titles}. Predict the next item.",
        "After {titles}, which item does the user choose next?",
        "Given the titles of the user's history, {titles}, recommend the next item.",
        "A customer bought {titles}. Give the index of the next purchase.",
    ),
)

ITEMSEARCH = (
    *_all(
        "{index}",
        "Find an item for this request: {intention}",
        "A user writes: \"{intention}\" Which item is meant?",
        "What should be shown to someone who searches for this: {intention}",
        "Read the query and answer with the index of one item. {intention}",
    ),
    *_all(
        "{index}",
        "The user has interacted with {history} and now asks: {intention} Which item fits?",
        "After the items {history}, the user searches with these words: {intention} Name the item.",
        "A customer bought {history} and wants something new. The request is: {intention} Recommend an item.",
        "Use the history {history} to answer this query with an item: {intention}",
    ),
    *_all(
        "{index}",
        "About the user: {preferences} The user searches for this: {intention} Which item suits both?",
        "A user has these tastes: {preferences} Find an item for the user's request: {intention}",
        "Query: {intention}\nPreferences: {preferences}\nGive the index of the item that answers the query.",
    ),
)  # fmt: skip

PREFERENCEOBTAIN = _all(
    "{preferences}",
    "The user has interacted with {history}. What does the user like?",
    "Here is a user's history, oldest first: {history}. Describe the user's preferences.",
    "Given the items {history}, say in words what this user looks for.",
    "A customer bought {history} one after the other. What are the customer's tastes?",
    "Work out from {history} what matters to the user.",
    "Write down what is typical of a user with the history {history}.",
    "Which interests stand behind the choices {history}?",
    "Look at the sequence {history} and sum up the user's preferences.",
    "The user's past choices are {history}. What kinds of items does the user prefer?",
    "Tell a shop assistant what a customer who took {history} wants.",
    "From the interaction history {history}, infer the user's lasting preferences.",
)

YESNO = _all(
    "{answer}",
    'A user has enjoyed these items, oldest first: {titles}. Answer Yes or No: will the user enjoy "{candidate}"?',
)

TITLEREC = _all(
    "{title}",
    "The user has interacted with these items in order: {titles}. Write the title of the item that comes next.",
    "Here is what a user chose, oldest first: {titles}. What is the next choice called?",
    "Given the titles {titles}, recommend one more item to this user.",
    "A customer took {titles} one after the other. Name what the customer will take next.",
    "After {titles}, which item suits the user? Answer with its title.",
    "You are a recommender. The user's history is {titles}. Answer with the title of an item.",
)

TITLESEARCH = (
    *_all(
        "{title}",
        "Which item answers this request: {intention}",
        "A user is looking for this: {intention} Write the title of an item that fits.",
    ),
    *_all(
        "{title}",
        "The user has interacted with {titles} and now asks: {intention} Name an item that fits.",
        "After {titles}, a user is looking for this: {intention} Recommend an item by its title.",
    ),
    *_all(
        "{title}",
        "About the user: {preferences} The user asks for this: {intention} Write the title of what suits both.",
        "A user with these tastes: {preferences} is looking for this: {intention} Name an item.",
    ),
)

TITLEPREFERENCE = (
    *_all(
        "{title}",
        "About the user: {preferences} Recommend an item by its title.",
        "Someone describes a taste like this: {preferences} Name an item that suits it.",
    ),
    *_all(
        "{title}",
        "About the user: {preferences} So far the user chose {titles}. Write the title of the next item.",
        "The user has interacted with {titles} and has these tastes: {preferences} What should be recommended?",
    ),
)

TEMPLATES: dict[str, tuple[Template, ...]] = {
    "seqrec": SEQREC,
    "item2index": ITEM2INDEX,
    "index2item": INDEX2ITEM,
    "fusionseqrec": FUSIONSEQREC,
    "itemsearch": ITEMSEARCH,
    "preferenceobtain": PREFERENCEOBTAIN,
}
"""Task name -> its templates. The order of tasks and templates is part of the seeded draw: append, do not reorder."""

WORDLESS_TEMPLATES = {"nextitem": (Template("{history}", "{index}", framed=False),)}
"""Not one of the paper's tasks: just the history and the next item, as sequential recommenders are trained."""

LCREC_TEMPLATES = TEMPLATES | WORDLESS_TEMPLATES

RANKING_TEMPLATES: dict[str, tuple[Template, ...]] = {
    "yesno": YESNO,
    "titlerec": TITLEREC,
    "titlesearch": TITLESEARCH,
    "titlepreference": TITLEPREFERENCE,
}
"""The tasks of models that rank candidates by their titles (TALLRec: yesno; InstructRec: the others); no index."""

ALL_TEMPLATES = {**TEMPLATES, **RANKING_TEMPLATES, **WORDLESS_TEMPLATES}

SEQUENCE_TASKS = frozenset({"seqrec", "fusionseqrec", "titlerec", "nextitem"})
"""Tasks whose samples are a user's history and its target."""

USER_TASKS = frozenset({"itemsearch", "preferenceobtain", "titlesearch", "titlepreference"})
"""Tasks with one sample per user, made from what the user says."""

JUDGEMENT_TASKS = frozenset({"yesno"})
"""Tasks with two samples per history, for its target and another item. Tasks outside these sets have one per item."""
