"""What the tests of running searches share: a data set, commands, and what a search left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes import write_dataset

ROOT = Path(__file__).resolve().parents[2]
GRID = "learning_rate: {choice: [0.003, 0.001, 1.0e+9]}\n"
"""Three trials, the last of which diverges in its second epoch."""


def prepare(folder: Path) -> Path:
    """Write a data set whose first user has every item once, so that ids do not depend on what others did last."""
    write_dataset(folder, users=40, items=20)
    path = folder / "toy" / "toy.inter"
    head, *lines = path.read_text().splitlines()
    everything = [f"all\ti{item}\t{item}" for item in range(20)]
    path.write_text("\n".join([head, *everything, *lines]) + "\n")
    return folder


def change_test_items(folder: Path) -> None:
    """Give every user but the first another last item."""
    path = folder / "toy" / "toy.inter"
    head, *lines = path.read_text().splitlines()
    for place, line in enumerate(lines):
        user, item, when = line.split("\t")
        if user != "all" and (place + 1 == len(lines) or not lines[place + 1].startswith(f"{user}\t")):
            lines[place] = f"{user}\ti{(int(item[1:]) + 7) % 20}\t{when}"
    path.write_text("\n".join([head, *lines]) + "\n")


def arguments(folder: Path, space: str, **changes: Any) -> list[str]:
    """Return the command line of a small search."""
    path = folder / "space.yaml"
    path.write_text(space)
    options = {
        "model": "SASRec", "dataset": "toy", "tune": path, "data_path": folder, "cache_dir": folder / "cache",
        "output_dir": folder / "out", "epochs": 3, "hidden_size": 16, "inner_size": 16, "n_layers": 1,
        "use_gpu": False, "show_progress": False, "scheduler": "fifo", **changes,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in options.items()]


def process(argv: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, with a log in ``folder``."""
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with (folder / "process.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "recbole_lcrec", *argv], cwd=folder, env=known, stdout=log, stderr=log, text=True
        )


def events(out: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a search's journal."""
    path = out / "trials.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """Return what ``condition`` returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def curves(out: Path) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """Return the epochs and metrics of every trial, as its last start reported them."""
    found: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for event in events(out):
        if event["event"] == "started":
            found[event["trial"]] = []
        elif event["event"] == "reported":
            found[event["trial"]].append((event["epoch"], event["metrics"]))
    return dict(sorted(found.items()))


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder for processes of a test, with a name that is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="s"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
