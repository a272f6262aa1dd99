"""What users look for in the test phase: the intention behind each user's test item.

These texts are made from what training must not know. Only the test phase asks for them; nothing that builds training
data imports this module (a test checks this).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext.jobs import INTENTION, Job
from recbole_lcrec.usertext.loading import generate, reads_file
from recbole_lcrec.usertext.published import KIND, intentions_of, read_published
from recbole_lcrec.usertext.reviews import read_reviews
from recbole_lcrec.usertext.user_text_settings import NONE, UserTextSettings

logger = logging.getLogger(__name__)


def load_test_intentions(
    settings: UserTextSettings,
    *,
    targets: Mapping[str, int],
    item_text: ItemText,
    files: DataFiles,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Return user token -> queries whose answer is the user's test item.

    They have the same source as the training texts: the published file's "test" block (entries for an item other than
    the user's test item are left out and counted), or the generator, from the test item and the user's review of it.

    Args:
        targets: User token -> catalogue row of the user's test item.

    The other arguments are those of ``load_user_texts``.

    Raises:
        UserError: For a file that is missing or malformed, or a model that cannot be loaded.
    """
    if settings.user_text == NONE:
        return {}
    path = files.path(KIND)
    if reads_file(settings, path):
        return _from_file(path, targets, item_text)
    wanted = {user: [row] for user, row in targets.items()}
    # without times: if a pair has several reviews, the earliest could be of a training interaction
    reviews = read_reviews(replace(files, time_field=None), wanted, item_text, settings.review_text_fields)
    jobs = [Job(INTENTION, user, (int(row),), (reviews.get((user, int(row)), ""),)) for user, row in targets.items()]
    made = generate(
        settings, jobs, item_text, cache_dir=cache_dir, seed=seed, device=device, show_progress=show_progress
    )
    return {job.user: texts for job, texts in zip(jobs, made.texts, strict=True) if texts}


def _from_file(path: Path, targets: Mapping[str, int], item_text: ItemText) -> dict[str, tuple[str, ...]]:
    entries = intentions_of(read_published(path), path, "test")
    found = {
        user: entries[user].queries
        for user, row in targets.items()
        if user in entries and entries[user].queries and item_text.rows.get(entries[user].item) == row
    }
    if len(found) < len(targets):
        logger.warning(
            "%s: %d of %d test users have no intention for their test item in the test block.",
            path.name, len(targets) - len(found), len(targets),
        )  # fmt: skip
    return found
