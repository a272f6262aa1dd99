"""Where the users' texts come from: a published file, or a generator that sees training interactions only.

Everything here gets the users' training interactions and nothing that tells what comes after them. What the test phase
may ask is in ``recbole_lcrec.usertext.held_out``, which nothing on the way to a training sample imports.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.ids import check_same_ids
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext.generators import GENERATORS, Generated, Work
from recbole_lcrec.usertext.jobs import INTENTION, PREFERENCES, Job
from recbole_lcrec.usertext.published import KIND, intentions_of, preferences_of, read_published
from recbole_lcrec.usertext.reviews import read_reviews
from recbole_lcrec.usertext.texts import NO_USER_TEXTS, Intention, Preferences, UserTexts
from recbole_lcrec.usertext.user_text_settings import AUTO, FILE, NONE, UserTextSettings
from recbole_lcrec.utils.errors import UserError

SAVED_TEXTS = "user_texts.json"
"""Where a finished run keeps the texts it was trained with, in the published form."""

logger = logging.getLogger(__name__)


def load_user_texts(
    settings: UserTextSettings,
    *,
    train_sequences: Mapping[str, Sequence[int] | np.ndarray],
    item_text: ItemText,
    files: DataFiles,
    max_history: int,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
    saved: Path | None = None,
) -> UserTexts:
    """Return the users' intentions and preferences for training.

    An intention is for a user's last training item (the third-last of all under leave-one-out), with the items before
    it as history. Preferences are based on that same history, so that a sample with both does not give its answer
    away; for a user with a single training item, they are based on that item.

    Args:
        settings: Options of the users' texts.
        train_sequences: User token -> catalogue rows of the user's training interactions, in time order.
        item_text: The catalogue's text.
        files: The data set's files; ``<name>.user.json`` and ``<name>.review`` may be next to them.
        max_history: How many items of a history, the latest, are kept.
        cache_dir: Folder of the caches.
        seed: Draws the phrasing of generated texts.
        device: Device of a model.
        show_progress: Whether to show a bar.
        saved: Folder of a finished run whose texts to use (no texts if it kept none), unless ``user_text`` is none.

    Raises:
        UserError: For a file that is missing or malformed, or a model that cannot be loaded.
    """
    sequences = {user: [int(row) for row in rows] for user, rows in train_sequences.items() if len(rows)}
    path = files.path(KIND) if saved is None else saved / SAVED_TEXTS
    if settings.user_text == NONE or (saved is not None and not path.is_file()):
        return NO_USER_TEXTS
    if saved is not None or reads_file(settings, path):
        texts = _from_file(path, sequences, item_text, max_history, as_is=saved is not None)
    else:
        reviews = read_reviews(files, sequences, item_text, settings.review_text_fields)
        jobs = _jobs(sequences, reviews, max_history)
        made = generate(
            settings, jobs, item_text, cache_dir=cache_dir, seed=seed, device=device, show_progress=show_progress
        )
        texts = _from_generator(settings, jobs, made, sequences, max_history, len(reviews))
    logger.info(
        "User texts from %s: %d users with intentions, %d with preferences (%s).", texts.source,
        len(texts.intentions), len(texts.preferences), ", ".join(f"{n} {name}" for name, n in texts.counts.items()),
    )  # fmt: skip
    return texts


def reads_file(settings: UserTextSettings, path: Path) -> bool:
    """Return whether to use the published file.

    Raises:
        UserError: If it is required and does not exist.
    """
    if settings.user_text == FILE and not path.is_file():
        raise UserError(
            f"user_text=file: {path} does not exist. Put the published file there, or set user_text to extractive "
            "(made from item text), hf:<model>, or none."
        )
    return settings.user_text == FILE or (settings.user_text == AUTO and path.is_file())


def check_file(settings: UserTextSettings, files: DataFiles) -> None:
    """Refuse a published file that is missing or malformed, before the stages that precede its use.

    Raises:
        UserError: Naming the file and the key.
    """
    path = files.path(KIND)
    if reads_file(settings, path):
        value = read_published(path)
        preferences_of(value, path)
        intentions_of(value, path, "train")


def generate(
    settings: UserTextSettings,
    jobs: Sequence[Job],
    item_text: ItemText,
    *,
    cache_dir: Path,
    seed: int,
    device: str,
    show_progress: bool,
) -> Generated:
    """Let the chosen generator (extractive for auto) answer the jobs."""
    generator = GENERATORS["extractive" if settings.user_text == AUTO else settings.kind]
    work = Work(
        jobs, item_text, settings.source, settings.user_text_batch_size, settings.user_text_max_tokens,
        Path(cache_dir), seed, device, show_progress,
    )  # fmt: skip
    return generator.compute(work)


def _preference_history(sequence: Sequence[int], max_history: int) -> tuple[int, ...]:
    return tuple((sequence[:-1] or sequence)[-max_history:])


def _jobs(
    sequences: Mapping[str, Sequence[int]], reviews: Mapping[tuple[str, int], str], max_history: int
) -> list[Job]:
    jobs = []
    for user, sequence in sequences.items():
        history = _preference_history(sequence, max_history)
        jobs.append(Job(PREFERENCES, user, history, tuple(reviews.get((user, row), "") for row in history)))
        if len(sequence) > 1:
            target = sequence[-1]
            jobs.append(Job(INTENTION, user, (target,), (reviews.get((user, target), ""),)))
    return jobs


def _from_generator(
    settings: UserTextSettings,
    jobs: Sequence[Job],
    made: Generated,
    sequences: Mapping[str, Sequence[int]],
    max_history: int,
    n_reviews: int,
) -> UserTexts:
    preferences, intentions = {}, {}
    for job, texts in zip(jobs, made.texts, strict=True):
        if not texts:
            continue
        if job.kind == PREFERENCES:
            preferences[job.user] = Preferences(job.items, texts)
        else:
            history = tuple(sequences[job.user][:-1][-max_history:])
            intentions[job.user] = Intention(job.items[0], history, texts)
    source = "item text (extractive)" if settings.user_text == AUTO else f"user_text={settings.user_text}"
    counts = {"users": len(sequences), "reviews": n_reviews, **made.counts}
    return UserTexts(preferences, intentions, source, counts)


def _from_file(
    path: Path, sequences: Mapping[str, Sequence[int]], item_text: ItemText, max_history: int, *, as_is: bool
) -> UserTexts:
    """Take preferences and the "train" intentions; an entry with items other than training items is dropped."""
    value = read_published(path)
    published, blocks = preferences_of(value, path, as_is=as_is), intentions_of(value, path, "train", as_is=as_is)
    if not as_is:
        check_same_ids("user", sequences, "the interactions", published.keys() | blocks.keys(), path.name)
        named = [item for entry in blocks.values() for item in (*entry.history, entry.item)]
        check_same_ids("item", item_text.items, "the catalogue", named, path.name)
    counts = Counter({"users": len(sequences)})
    counts["unknown users"] = len((published.keys() | blocks.keys()) - sequences.keys())
    preferences, intentions = {}, {}
    for user, sequence in sequences.items():
        if published.get(user):
            preferences[user] = Preferences(_preference_history(sequence, max_history), published[user])
        entry = blocks.get(user)
        if entry is None:
            continue
        rows = [item_text.rows.get(item, -1) for item in (*entry.history, entry.item)]
        if not set(rows) <= set(sequence):
            counts["intentions with items outside the user's training part"] += 1
        elif entry.queries:
            intentions[user] = Intention(rows[-1], tuple(rows[:-1][-max_history:]), entry.queries)
        else:
            counts["intentions without words"] += 1
    dropped = counts["intentions with items outside the user's training part"]
    if dropped:
        logger.warning(
            "%s: %d of %d intentions of the train block name items outside their users' training part (held-out or "
            "unknown ones); they are not used.", path.name, dropped, len(blocks),
        )  # fmt: skip
    if counts["unknown users"]:
        logger.warning("%s: %d users have no training sample here.", path.name, counts["unknown users"])
    return UserTexts(preferences, intentions, str(path), dict(counts))
