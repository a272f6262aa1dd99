"""The codes of a recommended item, one by one: what each stands for and what it competed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recbole_lcrec.model.generative import Request
from recbole_lcrec.recommending.lists import Step
from recbole_lcrec.recommending.meanings import CodeMeanings


def steps_of(model: Any, meanings: CodeMeanings, history: np.ndarray, row: int) -> tuple[Step, ...]:
    """Return the steps of an item's path after a history.

    Args:
        model: A generative model in evaluation mode.
        meanings: What codes stand for.
        history: Catalogue rows, oldest first, int64 [n].
        row: Catalogue row of the item.
    """
    catalogue = model.catalogue
    codes = catalogue.index.codes_of([catalogue.text.items[row]])[0].tolist()
    found = model.steps(Request(history), torch.from_numpy(catalogue.paths[row]))
    code_of = _codes_by_token(catalogue)
    steps = []
    for level, step in enumerate(found):
        tokens, scores = step.tokens.tolist(), step.scores.double().tolist()
        of_codes = {code_of[token]: score for token, score in zip(tokens, scores, strict=True)}
        mine = of_codes.pop(codes[level])
        meaning = meanings.of(codes[: level + 1])
        if of_codes:
            best = max(of_codes, key=of_codes.__getitem__)
            steps.append(Step(meaning, mine, meanings.of([*codes[:level], best]), of_codes[best]))
        else:
            steps.append(Step(meaning, mine))
    return tuple(steps)


def _codes_by_token(catalogue: Any) -> dict[int, int]:
    """Return vocabulary id -> code, for the codes of all levels."""
    sizes: Sequence[int] = catalogue.index.level_sizes
    codes = np.concatenate([np.arange(size) for size in sizes])
    return dict(zip(catalogue.code_ids.tolist(), codes.tolist(), strict=True))
