"""Texts of users made from items and reviews: the generators, in one table; option ``user_text`` names one.

A generator gets jobs and answers each with texts, or with none if there is nothing to say. It sees only the jobs and
the catalogue's text, and nothing else of the data set.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext import extractive, huggingface
from recbole_lcrec.usertext.jobs import Job
from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.files import fingerprint

logger = logging.getLogger(__name__)

_TEXTS = "texts.json"


@dataclass(frozen=True)
class Work:
    """A request to a generator, with all that it needs.

    Attributes:
        jobs: The texts to write.
        text: The catalogue's text.
        source: The model, for generators that take one.
        batch_size: Prompts per forward pass of a model.
        max_tokens: Most tokens of a model's answer.
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
    """The answers of a generator: the texts of every job (perhaps none), and counts for the log."""

    texts: Sequence[tuple[str, ...]]
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Generator:
    """One way to make texts.

    Attributes:
        form: How the option is written, for messages.
        takes_source: Whether a model is named after the colon.
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


def _by_words(work: Work) -> Generated:
    """Return the extractive texts, written now or taken from the cache."""
    jobs = json.dumps([(job.kind, job.user, job.items, job.reviews) for job in work.jobs])
    key = fingerprint("extractive", extractive.cache_key(work.text, work.seed), jobs)
    entry = work.cache_dir / "user_texts" / key

    def load(entry: Path) -> list[tuple[str, ...]]:
        texts = json.loads((entry / _TEXTS).read_text(encoding="utf-8"))
        if len(texts) != len(work.jobs):
            raise ValueError(f"found texts for {len(texts)} jobs, expected {len(work.jobs)}")
        return [tuple(some) for some in texts]

    def save(texts: list[tuple[str, ...]], entry: Path) -> None:
        (entry / _TEXTS).write_text(json.dumps(texts), encoding="utf-8")

    texts, known = cached(
        entry,
        load=load,
        build=lambda: extractive.generate(work.jobs, work.text, work.seed),
        save=save,
        what="users' texts",
    )
    if known:
        logger.info("User texts: from the cache (%s).", entry)
    return Generated(texts)


GENERATORS: dict[str, Generator] = {
    "extractive": Generator(
        form="extractive (telling words of the items, offline)",
        takes_source=False,
        compute=_by_words,
    ),
    "hf": Generator(
        form="hf:<name or local folder of a causal LM of transformers>",
        takes_source=True,
        compute=_by_model,
    ),
}
