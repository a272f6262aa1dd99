"""The LM's tokenizer: our own byte-level BPE, or a base model's, each extended by all index tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import StageSettings
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.instruction.templates import PREAMBLE, RESPONSE_HEADER, TEMPLATES
from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.causal_lm import causal_tokenizer
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import fingerprint

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
MAX_TEXTS = 50_000
"""Most texts from which the vocabulary is learned."""
FRAME_REPEATS, WORDING_REPEATS = 20_000, 1_000
"""How often preamble and header (every sample has them), and each instruction, count relative to a text."""
_SAVED = "tokenizer.json"

INSTRUCTION_FRAME = (PREAMBLE, RESPONSE_HEADER)
INSTRUCTION_WORDING = tuple(t.instruction for task in TEMPLATES.values() for t in task)


@dataclass(frozen=True)
class TokenizerSettings(StageSettings):
    """Where a model's tokenizer comes from; the options are explained in properties/model/<model>.yaml.

    Attributes:
        base_model: Name or folder of the pretrained model whose tokenizer to take; None trains one.
        vocab_size: Number of entries of a trained one.
    """

    base_model: str | None
    vocab_size: int


def train_tokenizer(
    texts: Sequence[str],
    vocab_size: int,
    frame: Sequence[str] = INSTRUCTION_FRAME,
    wording: Sequence[str] = INSTRUCTION_WORDING,
) -> Any:
    """Train a byte-level BPE on the material of prompts (templates and item text).

    Args:
        texts: Item titles and descriptions; if there are more than 50,000, that many at even distances are used.
        vocab_size: Entries of the vocabulary before index tokens are added; at least 259 (all bytes and 3 marks).
        frame: What every prompt repeats.
        wording: What only some prompts have.

    Returns:
        A transformers fast tokenizer with pad, begin and end tokens; the begin token is put before every text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, 259),
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # prompts repeat these, so their words should be single tokens for every catalogue
    repeated = [*(list(frame) * FRAME_REPEATS), *(list(wording) * WORDING_REPEATS)]
    kept = [texts[i * len(texts) // MAX_TEXTS] for i in range(MAX_TEXTS)] if len(texts) > MAX_TEXTS else texts
    tokenizer.train_from_iterator([*repeated, *kept], trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return _with_marks(tokenizer)


def _with_marks(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)


def trained_tokenizer(
    texts: Sequence[str],
    vocab_size: int,
    frame: Sequence[str] = INSTRUCTION_FRAME,
    wording: Sequence[str] = INSTRUCTION_WORDING,
    *,
    cache_dir: Path,
) -> Any:
    """Return the tokenizer of :func:`train_tokenizer` for the same arguments, trained now or taken from the cache.

    Args:
        cache_dir: Folder of the caches; the entry is ``tokenizers/<key>/`` there.
    """
    about = (metadata.version("tokenizers"), MAX_TEXTS, FRAME_REPEATS, WORDING_REPEATS)
    key = fingerprint(1, about, vocab_size, list(texts), list(frame), list(wording))

    def load(entry: Path) -> Any:
        from tokenizers import Tokenizer

        return _with_marks(Tokenizer.from_file(str(entry / _SAVED)))

    tokenizer, _ = cached(
        cache_dir / "tokenizers" / key,
        load=load,
        build=lambda: train_tokenizer(texts, vocab_size, frame, wording),
        save=lambda tokenizer, entry: tokenizer.backend_tokenizer.save(str(entry / _SAVED)),
        what="tokens",
    )
    return tokenizer


def load_tokenizer(source: str | Path, option: str = "base_model") -> Any:
    """Load a tokenizer by hub name or from a local folder.

    Raises:
        UserError: Naming ``option``, if there is none or it has no end token.
    """
    tokenizer = causal_tokenizer(str(source), f"{option}={source}")
    if tokenizer.eos_token_id is None:
        raise UserError(f"{option}={source}: its tokenizer has no end token (eos_token), which every response needs.")
    return tokenizer


def add_index_tokens(tokenizer: Any, index_tokens: Sequence[str]) -> None:
    """Add every code of every level to the vocabulary, including codes that no item uses yet.

    They are matched before the text is split into words, so a text with index tokens is tokenized piece by piece.
    """
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in index_tokens])


def index_token_ids(tokenizer: Any, index: ItemIndex) -> np.ndarray:
    """Return the vocabulary ids of all index tokens, level by level, int64 [sum of the level sizes].

    Raises:
        UserError: If the tokenizer lacks one: it was saved by another run than the index.
    """
    tokens = index.index_tokens()
    ids = tokenizer.convert_tokens_to_ids(tokens)
    lacking = [token for token, number in zip(tokens, ids, strict=True) if number in (None, tokenizer.unk_token_id)]
    if lacking:
        raise UserError(
            f"the tokenizer has no token {lacking[0]}, which is in the item index: they come from different runs. "
            "Restore the files as the run wrote them, or train it again."
        )
    return np.asarray(ids, dtype=np.int64)
