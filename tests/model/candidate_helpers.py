"""What the tests of TALLRec and InstructRec share: tiny experiments and plain forwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from fakes import TINY, write_dataset

from recbole_lcrec.experiment import Experiment, build

UNI20 = {"mode": {"valid": "uni20", "test": "uni20"}}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return options that train a ranker in a second on a toy data set."""
    given = {**TINY, "data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache")}
    return {**given, "output_dir": str(folder / "out"), "task_samples": 64, "eval_args": UNI20, **changes}


def made(model: str, folder: Path, **changes: Any) -> Experiment:
    """Return an experiment in evaluation mode."""
    experiment = build(model, "toy", options(folder, **changes))
    experiment.model.eval()
    return experiment


@torch.no_grad()
def plain_log_probs(model: Any, ids: np.ndarray) -> torch.Tensor:
    """Return the log-probabilities [len(ids), V] after each token, without cache or padding."""
    logits: torch.Tensor = model.lm(input_ids=torch.from_numpy(ids.astype(np.int64))[None], use_cache=False).logits[0]
    return logits.log_softmax(-1)


def candidates_of(experiment: Experiment) -> list[tuple[int, int]]:
    """Return the (user, item) pairs that the test phase asks the model about, in order."""
    asked: list[tuple[int, int]] = []
    predict = experiment.model.predict

    def noting(interaction: Any, prompts: Any = None) -> torch.Tensor:
        asked.extend(zip(interaction["user_id"].tolist(), interaction["item_id"].tolist(), strict=True))
        return predict(interaction, prompts) if prompts else predict(interaction)

    experiment.model.predict = noting
    assert experiment.evaluate("test") is not None
    return asked
