"""Tiny runs of every kind that can be exported, and a process that recommends with exports without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes import TINY

Histories = list[list[str]]

QUICK = {**TINY, "epochs": 1, "eval_step": 0, "rqvae_epochs": 2}
PAPER: dict[str, Any] = {
    **QUICK,
    **{"tasks": ["seqrec", "item2index"], "task_samples": {"seqrec": 32, "item2index": 16}, "user_text": "none"},
    **{"history_loss_weight": 0.0, "history_windows": False, "history_separator": ", "},
    "max_length": 180,  # too few tokens for a history of 20 items
}
ITEM_LEVEL: dict[str, Any] = {
    **QUICK,
    **{"tasks": ["nextitem"], "task_samples": {"nextitem": 64}, "eval_task": "nextitem", "history_input": "item"},
    **{"item_prefixes": True, "item_features": True, "item_loss_weight": 1.0, "item_score_weight": 0.5},
    **{"loss_normalization": "children", "num_levels": 2, "max_length": 100},
}
T5 = {name: value for name, value in QUICK.items() if not name.startswith(("lm_", "task_"))} | {
    **{"t5_d_model": 16, "t5_layers": 2, "t5_heads": 2, "t5_head_dim": 8, "t5_d_ff": 32, "train_samples": 64},
    **{"learning_rate": 0.01},
}


@dataclass(frozen=True)
class Kind:
    """A run and an export of it.

    Attributes:
        model: Name of the model.
        options: Options of the run; kinds with equal ones share a run.
        base: Which small checkpoint it tunes ("" for none).
        changes: Options of the export.
        lora: Where adapters go.
    """

    model: str
    options: dict[str, Any]
    base: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    lora: str | None = None


LORA = {**PAPER, "tuning": "lora", "learning_rate": 0.01, "max_length": 460}
KINDS = {
    "paper": Kind("LCRec", PAPER),
    "paper, other scores": Kind("LCRec", PAPER, changes={"score_normalization": "level", "exclude_history": True}),
    "paper, children": Kind("LCRec", PAPER, changes={"score_normalization": "children", "eval_prompts": [3]}),
    "merged": Kind("LCRec", LORA, "qwen2"),
    "beside": Kind("LCRec", LORA, "llama", lora="beside"),
    "TIGER": Kind("TIGER", T5),
    "TIGER, history excluded": Kind("TIGER", T5, changes={"exclude_history": True, "score_normalization": "children"}),
    "P5CID": Kind("P5CID", T5),
    "items": Kind("LCRec", ITEM_LEVEL),
    "items, history excluded": Kind("LCRec", ITEM_LEVEL, changes={"exclude_history": True}),
    "items as inputs": Kind(
        "LCRec",
        {**ITEM_LEVEL, "loss_normalization": "vocabulary", "item_loss_weight": 0.0, "item_score_weight": 0.0},
        "qwen2",
    ),
}

_CODE = """
import importlib.util, json, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("recbole_lcrec", "recbole"):
            raise AssertionError(f"an export imports {name}")

sys.meta_path.insert(0, Refused())
found = []
for script, histories, k in json.load(sys.stdin):
    spec = importlib.util.spec_from_file_location("recommend", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found.append([module.recommend(history, k) for history in histories])
print(json.dumps(found))
"""


def recommended_alone(asked: Sequence[tuple[Path, Histories, int]], cwd: Path) -> list[Histories]:
    """Return what the scripts of exports recommend, in one process that cannot import this package."""
    stdin = json.dumps([[str(folder / "recommend.py"), histories, k] for folder, histories, k in asked])
    command = [sys.executable, "-I", "-c", _CODE]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[Histories] = json.loads(done.stdout.splitlines()[-1])
    return found
