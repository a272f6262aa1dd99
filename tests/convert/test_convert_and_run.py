"""Converted data in the product: from raw files to a result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import single_thread
from fakes import TINY
from raw_files import old_review, run, write_lines

from recbole_lcrec.experiment import run as run_experiment

one_thread = single_thread.one_thread
ROOT = Path(__file__).resolve().parents[2]


def test_pop_runs_on_a_converted_catalogue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reviews = [
        old_review(f"A{user}", f"B{item:09d}", 10**9 + 86400 * time)
        for user in range(30)
        for time, item in enumerate(rng.choice(12, 6, replace=False).tolist())
    ]
    rng.shuffle(reviews)  # type: ignore[arg-type]
    write_lines(tmp_path / "in" / "Tools.json.gz", reviews, packed=True)
    meta = [{"asin": f"B{item:09d}", "title": f'"{item}" saw', "category": ["Tools"]} for item in range(12)]
    write_lines(tmp_path / "in" / "meta_Tools.json", meta)
    status, folder = run("amazon2018", tmp_path / "in", tmp_path / "data", "--k-core=5")
    assert status == 0
    options = {**TINY, "data_path": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    result = run_experiment("Pop", "x", {**options, "cache_dir": str(tmp_path / "cache")})
    assert result["test_result"]["hit@10"] > 0
    assert folder.is_dir()


def test_the_command_line_speaks_plainly(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "recbole_lcrec.convert", "amazon2018", "nowhere", "--name=x"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: nowhere does not exist.\n")
    assert list(tmp_path.iterdir()) == []
