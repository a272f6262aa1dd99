"""What a language model answers, made into texts: repaired where that is safe, dropped where it is not."""

from __future__ import annotations

import re

from recbole_lcrec.data.text import clean_text

MAX_QUERIES = 2
_LEAST_WORDS = 2
_MOST_WORDS = {"intention": 40, "preferences": 80}

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_LABEL = re.compile(
    r"^\s*(?:[-*•>#]+\s*|\(?\d{1,2}[.):]\s*"
    r"|(?:query|queries|answer|preferences?|the user's preferences)\s*\d?\s*[:.-]\s*)+",
    re.IGNORECASE,
)
_QUOTES = " \t\"'`*“”„«»,[]{}"


def parse_answer(kind: str, answer: str) -> tuple[tuple[str, ...], bool]:
    """Return the texts in an answer, and whether it had to be repaired.

    Queries are expected one per line, preferences as one text. List marks, labels, quotes, code fences and a model's
    thoughts are removed; over-long texts are cut after a word. A text needs two different words: without them, the
    answer is dropped, and no texts are returned.

    Args:
        kind: "intention" or "preferences".
        answer: What the model wrote.
    """
    lines = [line for line in _THOUGHT.sub("", answer).splitlines() if line.strip() and "```" not in line]
    plain = [_plain(line) for line in lines]
    if kind == "intention":
        texts = [line for line in plain if not line.endswith(":")]
    else:
        texts = [" ".join(line for line in plain if line)]
    cut = [" ".join(text.split(" ")[: _MOST_WORDS[kind]]) for text in texts]
    good = list(dict.fromkeys(text for text in cut if _has_words(text)))
    good = good[: MAX_QUERIES if kind == "intention" else 1]
    expected = [line.strip() for line in answer.splitlines()]
    return tuple(good), good != expected


def _plain(line: str) -> str:
    return clean_text(_LABEL.sub("", line).strip(_QUOTES).strip())


def _has_words(text: str) -> bool:
    words = {word.lower() for word in text.split() if any(c.isalpha() for c in word)}
    if len(words) >= _LEAST_WORDS:
        return True
    return any(len(word) >= 4 and not word.isascii() for word in words)  # scripts without spaces between words
