"""A real comparison, from the command line to the files, with real processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.cli import main as cli
from recbole_lcrec.comparison.results import metric_of_ranks, read_ranks
from recbole_lcrec.experiment import run


def test_a_comparison_gives_what_single_runs_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {**TINY, "data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache"), "epochs": 1}
    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump(given))
    out = tmp_path / "o 'ut: #1"
    argv = ["--model=ExactPop,SASRec(loss_type=BPR) as with BPR", "--dataset=toy", f"--config_files={config}"]
    argv += ["--seed=5", "--jobs=2", f"--output_dir={out}"]
    assert cli.main(argv) == 0
    with (out / "leaderboard.csv").open() as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    single = run("SASRec", "toy", {**given, "loss_type": "BPR", "seed": 5, "output_dir": str(tmp_path / "single")})
    for name, value in single["test_result"].items():
        assert float(rows["with BPR"][name]) == pytest.approx(value, abs=1e-6)
    assert {row["split_sha256"] for row in rows.values()} == {single["split_sha256"]}
    expected = sorted(path.name for path in (tmp_path / "single").iterdir())
    folder = out / "runs" / "with-BPR-5"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*expected, "console.log", "options.yaml"])
    values = metric_of_ranks(read_ranks(folder / "ranks.csv.gz"), "ndcg@10")
    assert values is not None and values.mean() == pytest.approx(single["test_result"]["ndcg@10"], abs=5.1e-5)
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}
    assert cli.main([*argv[:-1], f"--output_dir={out}", "--show_progress=True"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")} and len(before) == 2
    assert json.loads((folder / "result.json").read_text())["seed"] == 5
