"""Whether an export recommends what its run does: the script itself is run for some users."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.utils.progress import progress

USERS, PLACES = 8, 10
TOLERANCE = 1e-4
"""How much the scores of items that change places may differ."""


@dataclass(frozen=True)
class ScoredHistories:
    """What a run recommends to some users.

    Attributes:
        histories: Their histories, item tokens, oldest first.
        items: The best items of each.
        scores: The items' scores.
        show_progress: Whether to show a bar while the script runs.
    """

    histories: list[list[str]]
    items: list[list[str]]
    scores: list[list[float]]
    show_progress: bool


def sample_of(experiment: Any) -> ScoredHistories:
    """Return the run's recommendations for training histories of users at even distances."""
    train = experiment.train_data._dataset
    sequences = list(training_sequences(train).values())
    chosen = [sequences[number * len(sequences) // USERS] for number in range(min(USERS, len(sequences)))]
    names = train.field2id_token[train.iid_field]
    histories = [[str(names[item]) for item in sequence] for sequence in chosen]
    items, scores = experiment.recommend(histories, PLACES)
    return ScoredHistories(histories, items, scores, bool(RunOptions(experiment.config).show_progress))


def agreement(script: Path, sample: ScoredHistories) -> float:
    """Return the share of places of the sample in which a script has the run's item or one of the same score."""
    spec = importlib.util.spec_from_file_location("exported_recommend", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(script.parent / "__pycache__", ignore_errors=True)
    same = total = 0
    lists = zip(sample.histories, sample.items, sample.scores, strict=True)
    for history, items, scores in progress(list(lists), description="Checking the export", show=sample.show_progress):
        same += places_alike(module.recommend(history, PLACES), items, scores)
        total += len(items)
    return same / max(total, 1)


def places_alike(found: Sequence[str], items: Sequence[str], scores: Sequence[float]) -> int:
    """Return in how many places two lists have the same item, or items whose scores are equal up to rounding.

    Args:
        found: Items, best first.
        items: Items found in another way, best first.
        scores: The scores of ``items``; other items are taken to have the last score.
    """
    score_of = dict(zip(items, scores, strict=True))
    of_found = [score_of.get(item, scores[-1]) for item in found]
    same = [a == b or abs(x - y) < TOLERANCE for a, b, x, y in zip(found, items, of_found, scores, strict=False)]
    return sum(same)
