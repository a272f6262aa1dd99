"""Tiny runs of every kind that can be exported, and a process that recommends with exports without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes import TINY

FEW = {"seqrec": 32, "item2index": 16}
PAPER: dict[str, Any] = {
    **TINY,
    **{"tasks": ["seqrec", "item2index"], "task_samples": FEW, "user_text": "none", "epochs": 1},
    **{"history_loss_weight": 0.0, "history_windows": False, "history_separator": ", "},
}
ITEM_LEVEL: dict[str, Any] = {
    **TINY,
    **{"tasks": ["nextitem"], "task_samples": {"nextitem": 64}, "eval_task": "nextitem", "history_input": "item"},
    **{"item_prefixes": True, "item_features": True, "item_loss_weight": 1.0, "item_score_weight": 0.5},
    **{"loss_normalization": "children", "num_levels": 2, "codebook_size": [8, 8]},
}

CODE = """
import importlib.util, json, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("recbole_lcrec", "recbole"):
            raise AssertionError(f"an export imports {name}")

sys.meta_path.insert(0, Refused())
found = {}
for script, histories in json.load(sys.stdin):
    spec = importlib.util.spec_from_file_location("recommend", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found[script] = [module.recommend(history, 10) for history in histories]
json.dump(found, sys.stdout)
"""


def recommended_alone(asked: Sequence[tuple[Path, list[list[str]]]], cwd: Path) -> dict[str, list[list[str]]]:
    """Return what the scripts of exports recommend, in one process that cannot import this package."""
    stdin = json.dumps([[str(folder / "recommend.py"), histories] for folder, histories in asked])
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE], input=stdin, capture_output=True, text=True, cwd=cwd, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return {str(Path(script).parent): lists for script, lists in found.items()}
