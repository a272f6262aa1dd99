"""Token ids of words, remembered word by word where a tokenizer allows it.

Building samples takes most of its time in the tokenizer, which has seen most of its input before: the preamble, the
instructions, the words of titles. A byte-level BPE splits a text by GPT-2's regular expression before it merges
anything, and that expression always begins a new piece at a blank between words. So the tokens of a text are those of
its words, concatenated, and each word needs to be tokenized only once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

REMEMBERED = 1 << 17
"""Number of words whose tokens are kept, about 250 bytes each."""

# A blank with white space on both sides is joined to its neighbours: then the text is tokenized whole.
_BLANK_INSIDE_SPACE = re.compile(r"\s (?:\s|\Z)")


class WordIds:
    """A function text -> token ids, without the tokens that a tokenizer puts around a text.

    For every tokenizer, the ids equal ``tokenizer(text, add_special_tokens=False).input_ids``.

    Args:
        tokenizer: A tokenizer of transformers; tokens must not be added to it afterwards.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.by_words = splits_at_blanks(tokenizer)
        self._word = lru_cache(maxsize=REMEMBERED)(self._whole)

    def __call__(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        if not self.by_words or _BLANK_INSIDE_SPACE.search(text):
            return list(self._whole(text))
        first, *others = text.split(" ")
        return [*self._word(first), *chain.from_iterable([self._word(" " + word) for word in others])]

    def _whole(self, text: str) -> Sequence[int]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)


def splits_at_blanks(tokenizer: Any) -> bool:
    """Return whether the tokens of a text are those of its words: pieces that begin at the blanks between words.

    This is known only of byte-level BPE with GPT-2's regular expression (our own tokenizer, and GPT-2's): no piece
    extends over a blank, since white space is matched up to the last blank before a word, which belongs to the word.
    Other tokenizers merge across blanks, change the text first, or have not been examined.
    """
    from tokenizers import models, pre_tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is not None:
        return False
    split, model = backend.pre_tokenizer, backend.model
    if not isinstance(split, pre_tokenizers.ByteLevel) or not split.use_regex or split.add_prefix_space:
        return False
    # tokens that extend over a blank or swallow the one after them
    added = backend.get_added_tokens_decoder().values()
    wide = any(token.rstrip or any(map(str.isspace, token.content)) for token in added)
    return isinstance(model, models.BPE) and not model.dropout and not wide
