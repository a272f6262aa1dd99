"""The tokenizer of an export: that of the run, of a model without words one made of the index, and items as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_lcrec.index.catalogue import END_ID, FIRST_CODE_ID, PAD_ID


def index_tokenizer(index_tokens: Sequence[str], size: int) -> Any:
    """Return the tokenizer of a model whose vocabulary is the index: ``<user_3><a_12><b_7>`` becomes three ids.

    Args:
        index_tokens: Every code of every level.
        size: Number of the model's tokens: padding, end, codes, and users.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = {PAD_ID: "<pad>", END_ID: "</s>"}
    names |= {FIRST_CODE_ID + number: token for number, token in enumerate(index_tokens)}
    names |= {number: f"<user_{number - len(names)}>" for number in range(len(names), size)}
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in names.items()}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<[^>]*>"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END_ID)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def item_token(item: str) -> str:
    """Return the token that stands for an item of a history."""
    return f"<item:{item}>"


def add_items(tokenizer: Any, items: Sequence[str], first: int) -> None:
    """Add a token per item, with the ids ``first``, ``first + 1``, ...; unused ids before get placeholder tokens."""
    from tokenizers import AddedToken

    free = range(len(tokenizer), first)
    tokens = [*(f"<unused_{number}>" for number in free), *map(item_token, items)]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    assert tokenizer.convert_tokens_to_ids(item_token(items[-1])) == first + len(items) - 1
