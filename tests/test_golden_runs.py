"""Tiny runs whose split, index, losses and metrics are known: what should not change results must not change these.

The numbers are in golden/runs.json. After a change that is meant to alter them, write them anew and say so in the
commit: ``python tests/test_golden_runs.py``, in the environment of requirements.txt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, WHOLE_HISTORY, write_dataset

from recbole_lcrec.experiment import run

GOLDEN = Path(__file__).parent / "golden" / "runs.json"
PLAIN = {"show_progress": False, "use_gpu": False, "epochs": 2, "eval_step": 1, "train_batch_size": 16}
WITH_INDEX = {name: value for name, value in TINY.items() if not name.startswith(("recipe", "lm_", "task_", "vocab"))}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "six tasks": ("LCRec", {**TINY, **WHOLE_HISTORY}),
    "response only": ("LCRec", {**TINY, "history_separator": ""}),
    "whole items": (
        "LCRec",
        {
            **TINY,
            **WHOLE_HISTORY,
            "tasks": ["nextitem"],
            "task_samples": {"nextitem": 64},
            "eval_task": "nextitem",
            "history_input": "item",
            "item_prefixes": True,
            "item_features": True,
            "item_loss_weight": 1.0,
            "item_score_weight": 0.5,
            "loss_normalization": "children",
        },
    ),
    "encoder and decoder": (
        "TIGER",
        {**WITH_INDEX, "t5_d_model": 16, "t5_d_ff": 32, "t5_head_dim": 8, "t5_layers": 1, "t5_heads": 2},
    ),
    "attention": ("SASRec", {**PLAIN, "loss_type": "CE", "train_neg_sample_args": None}),
    "sampled negatives": ("BPR", PLAIN),
    "counts": ("ExactPop", PLAIN),
}


def found(name: str, folder: Path) -> dict[str, Any]:
    """Return the split, the index, the losses and the metrics of a run."""
    model, options = RUNS[name]
    places = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache")}
    result = run(model, "toy", {**options, **places, "output_dir": str(folder / "out")})
    index = folder / "out" / "index.json"
    return {
        "split_sha256": result["split_sha256"],
        "index": {item: "".join(path) for item, path in json.loads(index.read_text()).items()}
        if index.is_file()
        else None,
        "train_loss": [epoch["train_loss"] for epoch in result["learning_curve"]],
        "valid": [epoch["valid"] for epoch in result["learning_curve"]],
        "test": result["test_result"],
    }


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_numbers_that_it_gave_before(name: str, tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    now = found(name, tmp_path)
    assert now["split_sha256"] == expected["split_sha256"]
    assert now["index"] == expected["index"]
    # rounding differs between processors and versions of the libraries
    assert now["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    for measured, known in zip([*now["valid"], now["test"]], [*expected["valid"], expected["test"]], strict=True):
        assert measured == pytest.approx(known, abs=1e-4)


def _write() -> None:
    import tempfile

    sys.argv = sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder:
        numbers = {name: found(name, Path(folder) / str(number)) for number, name in enumerate(RUNS)}
    GOLDEN.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
