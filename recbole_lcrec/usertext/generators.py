"""Texts of users made from items and reviews: the generators, in one table; option ``user_text`` names one.

A generator gets jobs and answers each with texts, or with none where there is nothing to say. It sees what is in the
jobs and the catalogue's text, and nothing else of the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext import extractive, huggingface
from recbole_lcrec.usertext.jobs import Job


@dataclass(frozen=True)
class Work:
    """What a generator is asked for, and with what.

    Attributes:
        jobs: The texts that are wanted.
        text: The catalogue's text.
        source: The model, for generators that take one.
        batch_size: Prompts per forward pass of a model.
        max_tokens: Tokens of an answer of a model.
        cache_dir: Folder of the caches.
        seed: Draws the phrasing.
        device: Device of a model.
        show_progress: Whether to show a bar.
    """

    jobs: Sequence[Job]
    text: ItemText
    source: str
    batch_size: int
    max_tokens: int
    cache_dir: Path
    seed: int
    device: str
    show_progress: bool


@dataclass(frozen=True)
class Generated:
    """The answers of a generator: texts of every job (empty if it got none), and counts for the log."""

    texts: Sequence[tuple[str, ...]]
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Generator:
    """One way to make texts.

    Attributes:
        form: How the option is written, for messages.
        takes_source: Whether a model follows the name.
        compute: Makes the texts.
    """

    form: str
    takes_source: bool
    compute: Callable[[Work], Generated]


def _by_model(work: Work) -> Generated:
    texts, counts = huggingface.generate(
        work.jobs,
        work.text,
        work.source,
        batch_size=work.batch_size,
        max_tokens=work.max_tokens,
        cache_dir=work.cache_dir,
        device=work.device,
        show_progress=work.show_progress,
    )
    return Generated(texts, counts)


GENERATORS: dict[str, Generator] = {
    "extractive": Generator(
        form="extractive (telling words of the items, offline)",
        takes_source=False,
        compute=lambda work: Generated(extractive.generate(work.jobs, work.text, work.seed)),
    ),
    "hf": Generator(
        form="hf:<name or local folder of a causal LM of transformers>",
        takes_source=True,
        compute=_by_model,
    ),
}
