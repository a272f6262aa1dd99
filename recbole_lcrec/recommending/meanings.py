"""What the codes of an item index stand for, in words and examples.

The first code of a path splits the catalogue, the second one the items that share the first, and so on. So a code has
a meaning only at its place: what tells its items from the others that share the preceding codes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.index.item_index import ItemIndex, index_token
from recbole_lcrec.recommending.lists import CodeMeaning
from recbole_lcrec.usertext.words import terms_of

WORDS, EXAMPLES = 5, 3
"""Words and titles that are given for a code."""


class CodeMeanings:
    """The meanings of the codes of an index.

    Args:
        text: The catalogue's text.
        index: The item index; it has all items of the catalogue, and possibly more.
        counts: How often each catalogue item was taken in training, int64 [n_rows].
    """

    def __init__(self, text: ItemText, index: ItemIndex, counts: np.ndarray) -> None:
        self._text, self._counts = text, counts
        codes = index.codes_of(text.items)
        self._order = np.lexsort(codes.T[::-1])  # items with the same first codes are adjacent
        self._codes = codes[self._order]

    def of(self, prefix: Sequence[int]) -> CodeMeaning:
        """Return what the last code of a prefix stands for.

        Args:
            prefix: The first codes of a path, one or more.
        """
        group, parent = self._rows(prefix), self._rows(prefix[:-1])
        token = index_token(len(prefix) - 1, prefix[-1])
        best = group[np.argsort(-self._counts[group], kind="stable")]
        titles = [self._text.titles[row] for row in best.tolist() if self._text.titles[row]]
        return CodeMeaning(token, self._words(group, parent), tuple(titles[:EXAMPLES]), len(group))

    def _rows(self, prefix: Sequence[int]) -> np.ndarray:
        """Return the catalogue rows of the items whose paths begin with a prefix."""
        first, last = 0, len(self._order)
        for level, code in enumerate(prefix):
            column = self._codes[first:last, level]
            first, last = (first + int(np.searchsorted(column, code, side=side)) for side in ("left", "right"))
        return self._order[first:last]

    def _words(self, group: np.ndarray, parent: np.ndarray) -> tuple[str, ...]:
        """Return the words of a group, ordered by n p(w | group) log(p(w | group) / p(w | parent)).

        A word that only one of several items has does not count. Where the preceding codes leave no other items, the
        code tells nothing and has no words.
        """
        inside = self._frequencies(group)
        around = self._all if len(parent) == len(self._order) else self._frequencies(parent)
        least = min(2, len(group))
        told = {
            word: count * math.log(count / len(group) * len(parent) / around[word])
            for word, count in inside.items()
            if count >= least
        }
        ranked = sorted((word for word in told if told[word] > 0), key=lambda word: (-told[word], word))
        return tuple(_without_parts(ranked)[:WORDS])

    def _frequencies(self, rows: np.ndarray) -> Counter[str]:
        """Return in how many of the items' texts each word occurs."""
        found: Counter[str] = Counter()
        for row in rows.tolist():
            found.update(set(terms_of(f"{self._text.titles[row]}. {self._text.descriptions[row]}")))
        return found

    @cached_property
    def _all(self) -> Counter[str]:
        return self._frequencies(self._order)


def _without_parts(words: Sequence[str]) -> list[str]:
    """Return words and pairs without those that share a word with a more telling one."""
    kept: list[str] = []
    for word in words:
        if not any(set(word.split()) & set(other.split()) for other in kept):
            kept.append(word)
    return kept
