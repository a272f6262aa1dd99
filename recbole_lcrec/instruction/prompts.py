"""The one prompt builder: training samples and inference prompts are assembled here and nowhere else.

A sample is: preamble, instruction, response header, response, end token. Index tokens are looked up in a table; the
text between them is tokenized once per wording and cached. Because index tokens split a text before it is tokenized,
the concatenated pieces equal the tokens of the whole prompt (a test checks this for several tokenizers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.templates import (
    INDEX_FIELDS,
    PREAMBLE,
    RESPONSE_HEADER,
    Template,
    pieces,
)
from recbole_lcrec.instruction.words import WordIds
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.special_tokens import broken_up, reserved_tokens

LONG = 512
"""Texts with more characters than this are cached only for a short while."""

_WHOLE_ITEMS = 1 << 30
"""Token ids from here on stand for whole items; no vocabulary is that large."""


def whole_items(rows: Any) -> Any:
    """Return the input token ids that stand for the items of catalogue rows, both an array or a tensor."""
    return rows + _WHOLE_ITEMS


def are_whole_items(ids: Any) -> Any:
    """Return which token ids stand for whole items, bool."""
    return ids >= _WHOLE_ITEMS


def rows_of_whole_items(ids: Any) -> Any:
    """Return the catalogue rows of token ids that stand for whole items."""
    return ids - _WHOLE_ITEMS


@dataclass(frozen=True)
class Context:
    """What a template is filled with.

    Attributes:
        history: Catalogue rows of the user's items, oldest first.
        target: Catalogue row of the target item; None if the template has no target.
        intention: What the user is looking for, in words; "" if the template does not use it.
        preferences: What the user likes, in words; likewise.
        user: The user's name in prompts; likewise.
        candidate: Catalogue row of an item that is asked about; None if the template does not use it.
        answer: The answer about the candidate, Yes or No; "" if the template does not use it.
    """

    history: np.ndarray
    target: int | None = None
    intention: str = ""
    preferences: str = ""
    user: str = ""
    candidate: int | None = None
    answer: str = ""


@dataclass(frozen=True)
class Sample:
    """Token ids of a whole sample and the loss weight of each, both [length]; a prompt's weights are 0.

    Attributes:
        ids: Token ids.
        weights: Loss weight of each token, as predicted from the one before it.
        aside: bool [length], tokens that only the rest of their own run sees: what follows continues as if they were
            not there. None if there are none.
        samples: How many samples this row holds (`recbole_lcrec.instruction.nesting`).
    """

    ids: np.ndarray
    weights: np.ndarray
    aside: np.ndarray | None = None
    samples: int = 1


class PromptBuilder:
    """Assembles prompts and samples from templates, paths and item text.

    Args:
        tokenizer: A transformers fast tokenizer that knows all index tokens.
        paths: Vocabulary ids of each catalogue item's path, int64 [n_items, L]; L = 0 for models without an index.
        text: The catalogue's text, in the same order.
        settings: Options of the prompts.
        frame: What stands before the instruction, and between it and the response.
    """

    def __init__(
        self,
        tokenizer: Any,
        paths: np.ndarray,
        text: ItemText,
        settings: Any,
        frame: tuple[str, str] = (PREAMBLE, RESPONSE_HEADER),
    ) -> None:
        assert len(paths) == len(text.items)
        self.tokenizer = tokenizer
        self.paths = paths.astype(np.int32)
        self.text = text
        self.settings = settings
        self.frame = frame
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
        self._end = np.array([tokenizer.eos_token_id], np.int32)
        self._ids = WordIds(tokenizer)
        self._reserved = reserved_tokens(tokenizer)
        self._opening = lru_cache(maxsize=8)(self._ids)  # of what precedes a stretch
        self._begin = self._begin_ids()
        self.around = lru_cache(maxsize=256)(self.around_history)
        self._any_index_token = str(tokenizer.convert_ids_to_tokens(int(paths[0, 0]))) if paths.size else ""
        self._words = lru_cache(maxsize=1 << 18)(self._tokenize)
        self._long_words = lru_cache(maxsize=256)(self._tokenize)  # histories in words: hardly any recurs
        self._separator = self._words(settings.history_separator, "index") if settings.history_separator else None

    def shared_prefix(self, template: Template) -> np.ndarray:
        """Return the token ids that prompts of a wording begin with, int32 [length].

        Index tokens separate what precedes them. A tokenizer may merge words with the beginning of a text that
        follows, so before a text the last token is left out, and a prompt may still begin differently.
        """
        head, field = "", ""
        for is_field, part in pieces(self._frame_of(template)[0] + template.instruction):
            if is_field:
                field = part
                break
            head += part
        ids = np.concatenate([self._begin, self._words(head, "start")])
        return ids if field in INDEX_FIELDS else ids[:-1]

    def around_history(self, template: Template, user: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the token ids of a prompt before its history, between two of its items, and after it, int32 each.

        Args:
            template: A wording with a history, whose instruction has no other text from the catalogue.
            user: The user's name in prompts.
        """
        before, behind = self._frame_of(template)
        head, tail = (before + template.instruction + behind).split("{history}")
        context = Context(np.zeros(0, np.int64), user=user)
        parts = [
            [ids for ids, _ in self._parts(text, context, 0, place)]
            for text, place in ((head, "start"), (tail, "index"))
        ]
        between = np.zeros(0, np.int32) if self._separator is None else self._separator
        return np.concatenate([self._begin, *parts[0]]), between, np.concatenate([between[:0], *parts[1]])

    def of_items(self, paths: np.ndarray, text: ItemText) -> PromptBuilder:
        """Return a builder of the same prompts for another catalogue, with paths int64 [n_items, L] and text."""
        return PromptBuilder(self.tokenizer, paths, text, self.settings, self.frame)

    def prompt(self, template: Template, context: Context, reserve: int = 0) -> np.ndarray:
        """Return the token ids of a prompt up to and including the response header, int32 [length].

        Args:
            template: The wording.
            context: What it is filled with.
            reserve: Tokens of ``max_length`` to leave free for a response.
        """
        return np.concatenate([ids for ids, _ in self._fit(template, context, reserve)])

    def response(self, template: Template, context: Context) -> np.ndarray:
        """Return the token ids of a response and the end token, int32 [length]."""
        return np.concatenate([ids for ids, _ in self._response(template.response, context)])

    def until_candidate(self, template: Template, context: Context) -> np.ndarray:
        """Return the common beginning of prompts that differ only in the candidate, int32 [length].

        Followed by ``from_candidate``, this is the whole prompt. Room is made for the candidate of ``context``: with
        the longest one, histories that barely fit are cut alike for all candidates.

        Args:
            template: A wording whose last placeholder is the candidate.
            context: What it is filled with.
        """
        return np.concatenate([ids for ids, _ in self._fit(template, context, 0)[:-1]])

    def from_candidate(self, template: Template, candidate: int) -> np.ndarray:
        """Return the token ids from a candidate's title to the end of the prompt, int32 [length]."""
        context = Context(np.zeros(0, np.int64), candidate=candidate)
        tail = replace(template, instruction=template.instruction[template.instruction.index("{candidate}") :])
        # a candidate begins a stretch of its own, independent of what precedes it
        return self._instruction(tail, context, self.settings.max_text_words)[-1][0]

    def sample(self, template: Template, context: Context) -> Sample:
        """Return a training sample; weight 1 on the response and the end token.

        With ``history_loss_weight``, every item of the history except the first carries that weight too: it is
        predicted from the items before it (not in the paper, whose loss covers the response only). For a model without
        an index, whose histories are titles, all words of the instruction up to a candidate carry it. Where an item of
        the history is one token, the path of the next item stands aside after it.

        Raises:
            UserError: If ``max_length`` cannot hold even the shortest form of the sample.
        """
        response = self._response(template.response, context)
        parts = self._fit(template, context, sum(len(ids) for ids, _ in response)) + response
        ids, weights = np.concatenate([ids for ids, _ in parts]), np.concatenate([weights for _, weights in parts])
        if self.settings.history_input == "item" and self.settings.history_loss_weight:
            return self._with_next_items(ids, weights)
        return Sample(ids, weights)

    def decode(self, ids: np.ndarray, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids; a token that stands for an item reads ``<item TOKEN>``."""
        parts = []
        starts = np.flatnonzero(np.diff(are_whole_items(ids))) + 1
        for run in np.split(ids, starts):
            if len(run) and are_whole_items(run)[0]:
                parts += [f"<item {self.text.items[row]}>" for row in rows_of_whole_items(run).tolist()]
            else:
                parts.append(self.tokenizer.decode(run, skip_special_tokens=skip_special_tokens))
        return "".join(parts)

    def _with_next_items(self, ids: np.ndarray, weights: np.ndarray) -> Sample:
        """Put the path of the next item of the history aside after each item but the last."""
        places = np.flatnonzero(are_whole_items(ids))
        paths = self.paths[rows_of_whole_items(ids[places[1:]])]
        behind = np.repeat(places[:-1] + 1, paths.shape[1])
        return Sample(
            np.insert(ids, behind, paths.reshape(-1)),
            np.insert(weights, behind, np.float32(self.settings.history_loss_weight)),
            np.insert(np.zeros(len(ids), bool), behind, True),
        )

    def _fit(self, template: Template, context: Context, reserve: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Build an instruction within ``max_length``, ``reserve`` tokens of which are the response's.

        Over-long histories lose their oldest items, over-long texts their ends. A response is never cut after it is
        tokenized: text that makes it longer than half of ``max_length`` (words without spaces, scripts that take many
        tokens) loses words beforehand.
        """
        room = self.settings.max_length - reserve
        item_tokens = 8 * (self.paths.shape[1] or 4)  # more than an item takes, lest too many are dropped at once
        words, full = self.settings.max_text_words, context.history
        uses_history = bool(template.fields & {"history", "titles"})
        while True:
            parts = self._instruction(template, context, words)
            excess = sum(len(ids) for ids, _ in parts) - room
            if excess <= 0:
                return parts
            if uses_history and len(context.history) > 1:
                n_kept = max(len(context.history) - 1 - excess // item_tokens, 1)
                context = replace(context, history=full[-n_kept:])
            elif words:
                words //= 2
            else:
                raise UserError(
                    f"max_length={self.settings.max_length} is too small: an instruction of {excess + room} tokens "
                    f"and a response of {reserve} do not fit. Raise max_length."
                )

    def _instruction(self, template: Template, context: Context, words: int) -> list[tuple[np.ndarray, np.ndarray]]:
        begin = (self._begin, _filled(0.0, len(self._begin)))
        before, behind = self._frame_of(template)
        return [begin, *self._parts(before + template.instruction + behind, context, words, "start")]

    def _frame_of(self, template: Template) -> tuple[str, str]:
        return self.frame if template.framed else ("", "")

    def _response(self, text: str, context: Context) -> list[tuple[np.ndarray, np.ndarray]]:
        words = self.settings.max_text_words
        while True:
            parts = [ids for ids, _ in self._parts(text, context, words, "response")] + [self._end]
            if sum(map(len, parts)) <= self.settings.max_length // 2 or not words:
                return [(ids, _filled(1.0, len(ids))) for ids in parts]
            words //= 2

    def _parts(self, text: str, context: Context, words: int, place: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (token ids, loss weights) of each stretch of words and of each run of index tokens.

        A candidate begins a stretch, so that what precedes it is the same for all candidates.
        """
        buffer = ""
        for is_field, part in pieces(text):
            if not is_field:
                buffer += part
            elif part == "candidate":
                yield self._stretch(buffer, place)
                buffer, place = self._field(part, context, words), "quote"
            elif part not in INDEX_FIELDS:
                buffer += self._field(part, context, words)
            else:
                if buffer:
                    yield self._stretch(buffer, place)
                yield self._history(context.history) if part == "history" else self._path(context.target)
                buffer, place = "", "index"
        if buffer:
            yield self._stretch(buffer, place)

    def _stretch(self, text: str, place: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (token ids, loss weights) of words without index tokens."""
        ids = (self._words if len(text) <= LONG else self._long_words)(text, place)
        # where histories are words, their weight applies to everything before the response or the candidate
        weight = self.settings.history_loss_weight if place == "start" and not self.paths.size else 0.0
        return ids, _filled(weight, len(ids))

    def _path(self, target: int | None) -> tuple[np.ndarray, np.ndarray]:
        assert target is not None
        ids = self.paths[target]
        return ids, _filled(0.0, len(ids))

    def items(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each item of a history, [n, L], or int32 [n, 1] if one token stands for an item."""
        if self.settings.history_input == "item":
            return whole_items(rows).astype(np.int32).reshape(-1, 1)  # type: ignore[no-any-return]
        return self.paths[rows]

    def _history(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the index tokens of a history from the table, with the separator's ids between the items."""
        paths = self.items(rows)
        weight = 0.0 if self.settings.history_input == "item" else self.settings.history_loss_weight
        weights: np.ndarray = np.full(paths.shape, weight, np.float32)
        weights[:1] = 0  # nothing in the history precedes the first item
        if self._separator is None:
            return paths.reshape(-1), weights.reshape(-1)
        gap = np.broadcast_to(self._separator, (len(rows), len(self._separator)))
        ids = np.concatenate([paths, gap], axis=1).reshape(-1)
        weights = np.concatenate([weights, np.zeros(gap.shape, np.float32)], axis=1).reshape(-1)
        end = max(len(ids) - len(self._separator), 0)
        return ids[:end], weights[:end]

    def _field(self, name: str, context: Context, words: int) -> str:
        if name == "titles":
            titles = (self.text.titles[row] for row in context.history)
            return ", ".join(f'"{_first_words(title, words)}"' for title in titles if title)
        if name == "user":
            return context.user
        said = {"intention": context.intention, "preferences": context.preferences, "answer": context.answer}
        if name in said:
            text = said[name]
            assert text, f"a template with {{{name}}} was drawn for a sample without"
            return _first_words(text, words)
        if name == "candidate":
            assert context.candidate is not None
            return _first_words(self.text.titles[context.candidate], words)
        assert context.target is not None
        column = {"title": self.text.titles, "description": self.text.descriptions}[name]
        return _first_words(column[context.target], words)

    def _tokenize(self, text: str, place: str) -> np.ndarray:
        """Tokenize a stretch of words as inside the whole prompt; words never become reserved tokens.

        Args:
            text: Words without index tokens.
            place: Where it is: at the "start" of the prompt, right after an "index" token or a "quote", or at the
                start of the "response".
        """
        ids = self._inside(text, place)
        while not self._reserved.keys().isdisjoint(ids):
            found = [number for number in ids if number in self._reserved]
            plain = broken_up(text, map(self._reserved.__getitem__, found))
            # what is spelled unlike the reserved token (through a normalizer) is left out
            ids = self._inside(plain, place) if plain != text else [n for n in ids if n not in self._reserved]
            text = plain
        array = np.array(ids, np.int32)
        array.flags.writeable = False
        return array

    def _inside(self, text: str, place: str) -> list[int]:
        """Return the token ids of a stretch; see ``_tokenize``."""
        before = {"start": "", "index": self._any_index_token, "quote": '"', "response": self.frame[1]}[place]
        prefix = self._opening(before) if before else []
        ids = self._ids(before + text)
        # A tokenizer that merges across the header's final newline would hide where the response starts, so the two
        # sides are tokenized separately, as they must be at inference.
        return ids[len(prefix) :] if ids[: len(prefix)] == prefix else self._ids(text)

    def _begin_ids(self) -> np.ndarray:
        """Return what the tokenizer itself puts before a text (a begin token, or nothing)."""
        plain, marked = self._ids("x"), list(self.tokenizer("x").input_ids)
        start = next((i for i in range(len(marked)) if marked[i : i + len(plain)] == plain), 0)
        return np.array(marked[:start], np.int32)


@lru_cache(maxsize=1 << 12)
def _filled(weight: float, length: int) -> np.ndarray:
    """Return the loss weights of a stretch, float32 [length], shared by all equal stretches."""
    weights = np.full(length, weight, np.float32)
    weights.flags.writeable = False
    return weights


def _first_words(text: str, limit: int) -> str:
    """Return the first ``limit`` words, at most 16 characters per word on average."""
    words = text.split(" ")
    return (text if len(words) <= limit else " ".join(words[:limit]))[: 16 * limit]
