"""Text of others is text: an id, a title or a review that reads ``</s>`` or ``<a_1>`` must not become that token.

Tokenizers look for such tokens before anything else, wherever they stand. Any text could then contain the marks that
separate prompts from responses and items from words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_INDEX_TOKEN = re.compile(r"<[a-z]_\d+>")


def reserved_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the tokens that no text may hold: token id -> how it is written.

    These are special tokens (end, padding, chat marks) and the item index's. The unknown token is not among them,
    unless it is the end token, too; nor are ordinary words that were added to a vocabulary.
    """
    ids = set(tokenizer.all_special_ids)
    for number, token in tokenizer.added_tokens_decoder.items():
        if token.special or _INDEX_TOKEN.fullmatch(token.content):
            ids.add(number)
    if tokenizer.unk_token_id != tokenizer.eos_token_id:
        ids.discard(tokenizer.unk_token_id)
    return {number: str(tokenizer.convert_ids_to_tokens(number)) for number in ids}


def broken_up(text: str, tokens: Iterable[str]) -> str:
    """Return a text with a space after the first character of every token that it holds: ``< /s>`` for ``</s>``."""
    for token in tokens:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
