"""Bodies of requests and answers as the description of the interface (openapi.json) shows them.

Fields of requests accept anything here: they are checked by the same functions as a Python caller's arguments, so
mistakes are reported in the same words.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

_TOKENS = {"type": "array", "items": {"type": "string"}}


def _shown(schema: dict[str, Any]) -> Any:
    return WithJsonSchema(schema)


Tokens = Annotated[Any, _shown(_TOKENS)]
Text = Annotated[Any, _shown({"type": "string"})]
Number = Annotated[Any, _shown({"type": "integer", "minimum": 1})]
RunName = Annotated[
    Any, Field(description="Name of a run (see /health); left out, the first one."), _shown({"type": "string"})
]
History = Annotated[Tokens, Field(description="Item tokens (raw ids), oldest first.")]
K = Annotated[Number, Field(description="Items to return; fewer if there are not as many to choose from.")]


class Body(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
    run: RunName = None


class RecommendBody(Body):
    """Histories of item tokens, or users of the data set, and how many items each should get."""

    histories: Annotated[
        Any,
        Field(
            description="Histories of item tokens (raw ids), oldest first; an empty one gets the most frequent items.",
            examples=[[["i1", "i2"]]],
        ),
        _shown({"type": "array", "items": _TOKENS}),
    ] = None
    users: Annotated[
        Tokens,
        Field(description="Instead of histories: users of the data set (raw ids), after their last interaction."),
    ] = None
    k: K = 10
    unknown: Annotated[
        Any,
        Field(description="What to do with items of histories that the run does not know."),
        _shown({"type": "string", "enum": ["error", "skip"]}),
    ] = "error"
    paths: Annotated[
        Any, Field(description="Whether items come with their paths of codes."), _shown({"type": "boolean"})
    ] = False


class SearchBody(Body):
    """A wish in words, with or without a history."""

    query: Annotated[Text, Field(description="A wish in words.")]
    k: K = 10
    history: Annotated[Tokens, Field(description="Item tokens of the user, oldest first; may be left out.")] = None


class SimilarBody(Body):
    """An item whose neighbours are asked for."""

    item: Annotated[Text, Field(description="An item token.")]
    k: K = 10


class ExplainBody(Body):
    """A history and an item: why that one?"""

    history: History
    item: Annotated[Text, Field(description="An item token, such as a recommended one.")]


class Item(BaseModel):
    """An item, as answers name it."""

    item: str
    title: str | None
    score: float | None = None
    path: list[str] | None = None


class Items(BaseModel):
    """Items, best first."""

    items: list[Item]


class Recommended(BaseModel):
    """A list of items per history, best first; skipped: how many items were left out under unknown=skip."""

    recommendations: list[list[Item]]
    skipped: int | None = None


class User(BaseModel):
    """A user of the data set and the items of that user's history, oldest first."""

    user: str
    history: list[Item]


class Problem(BaseModel):
    """What is wrong, in words."""

    detail: str
