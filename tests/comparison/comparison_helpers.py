"""A process that pretends to train, and hand-made results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult, RunResult
from recbole_lcrec.comparison.specs import Entry

FAKE_CHILD = """
import gzip, json, os, pathlib, shlex, signal, sys, time, hashlib

options = pathlib.Path(shlex.split(sys.argv[2].removeprefix("--config_files="))[0])
folder = options.parent
text = options.read_text()
here = pathlib.Path(__file__).parent
with (here / "started.txt").open("a") as file:
    file.write(str(folder.relative_to(here)) + "\\n")
with (here / "places.txt").open("a") as file:
    file.write(f"{folder.name} {os.environ['OMP_NUM_THREADS']} {os.getppid()}\\n")
behaviour = json.loads((here / "behaviour.json").read_text()) if (here / "behaviour.json").exists() else {}
what = behaviour.get(folder.name, "")
if what == "fail":
    print("error: no luck today", file=sys.stderr)
    sys.exit(2)
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "orphan":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
if what == "hang":
    (here / "hanging.pid").write_text(str(os.getpid()))
    time.sleep(60)
number = int(hashlib.sha256(folder.name.encode()).hexdigest(), 16) % 7
rows = ["user,item,rank,censored,candidates,history,popularity,wording,top_1,top_2"]
for u in range(20):
    rank, other = 1 + (u * 3 + number) % 9, (u + number) % 5
    rows.append(f"u{u},i{u % 5},{rank},0,9,{3 + u % 4},{u % 6},,i{u % 5},i{other}")
with gzip.open(folder / "ranks.csv.gz", "wt") as file:
    file.write("\\n".join(rows) + "\\n")
resolved = here / "resolved" / str(folder.relative_to(here)).replace("/", "|")
(folder / "config.yaml").write_text(resolved.read_text())
result = {
    "test_result": {"hit@2": 0.1 * number, "ndcg@2": 0.05 * number},
    "split_sha256": "other" if what == "split" else "same", "seconds": {"train": 6.0, "test": 1.0},
    "beyond_accuracy": {"coverage@2": 0.5}, "ranks": {"list": 2, "among": "full"},
    "evaluated_users_per_second": 10.0, "parameters": {"total": 3}, "epochs": 1, "learning_curve": [],
    "memory": {"peak_mib": 5.0, "peak_gpu_mib": None}, "versions": {"python": "3"}, "machine": {"cores": 1},
}
(folder / "result.json").write_text(json.dumps(result))
"""


def fake_child(plan: Plan) -> tuple[str, ...]:
    """Write the pretending process beside the runs; return what ``runner.COMMAND`` has to be.

    Its behaviour comes from behaviour.json (name of a run's folder -> fail, killed, orphan, hang or split), and it
    notes every start in started.txt, with its threads and its parent in places.txt.
    """
    here = plan.output_dir
    (here / "resolved").mkdir(parents=True, exist_ok=True)
    for run in plan.runs:
        for stage in run.stages:
            path = here / "resolved" / str(stage.folder.relative_to(here)).replace("/", "|")
            path.write_text(yaml.safe_dump(dict(stage.resolved)))
    (here / "fake.py").write_text(FAKE_CHILD)
    (here / "comparison.log").touch()  # or the folder would be taken for somebody's own
    return ("-S", str(here / "fake.py"))


def started(plan: Plan) -> list[str]:
    """Return the folders of the stages that were started, in order, and forget them."""
    path = plan.output_dir / "started.txt"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.removeprefix("runs/") for line in lines]


def ranks_table(ranks: Sequence[int], tops: Sequence[Sequence[str]] | None = None, **columns: Any) -> pd.DataFrame:
    """Return rows as ranks.csv.gz has them, for users u0, u1, ... with targets t0, t1, ..."""
    n = len(ranks)
    base: dict[str, Any] = {
        "user": [f"u{u}" for u in range(n)],
        "item": [f"t{u}" for u in range(n)],
        "rank": list(ranks),
        "censored": 0,
        "candidates": 100,
        "history": np.arange(n) + 3,
        "popularity": np.arange(n),
        "wording": "",
        **columns,
    }
    table = pd.DataFrame(base)
    for place in range(len(tops[0]) if tops else 0):
        table[f"top_{place + 1}"] = [top[place] for top in tops or ()]
    return table


def model_result(
    label: str, metrics: Sequence[dict[str, float]], ranks: pd.DataFrame | None = None, **changes: Any
) -> ModelResult:
    """Return a model with a run per dictionary of metrics, seeds 1, 2, ..."""
    result = {
        "split_sha256": "abc",
        "evaluated_users_per_second": 1234.5,
        "parameters": {"total": 1000},
        "memory": {"peak_mib": 512.0, "peak_gpu_mib": None},
        "ranks": {"list": 2, "among": "full"},
        "epochs": 3,
        "learning_curve": [],
        "versions": {"python": "3.11"},
        "machine": {"cores": 2, "torch_threads": 1},
    }
    runs = tuple(
        RunResult(seed, {**result, "test_result": one}, ranks, 90.0) for seed, one in enumerate(metrics, start=1)
    )
    return ModelResult(Entry(label, label.split()[0], changes.pop("options", {})), runs, changes.pop("failures", {}))


PYTHON = sys.executable
ROOT = Path(__file__).resolve().parents[2]
