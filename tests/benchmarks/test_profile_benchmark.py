"""The benchmark that takes training steps apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.benchmarks import __main__ as command_line


def profile(folder: Path, model: str, **options: Any) -> dict[str, Any]:
    given = {**options, "data_path": write_dataset(folder), "train_batch_size": 4}
    file = folder / "profile.json"
    texts = [f"{name}={value}" for name, value in given.items()]
    asked = ["profile", "--model", model, "--dataset", "toy", "--steps", "2", "--output", str(file)]
    assert command_line.main([*asked, "--set", *texts]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_parts_make_up_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = {
        name: TINY[name] for name in TINY if name.startswith(("lm_", "vocab_size", "rqvae_", "codebook", "num_le"))
    }
    found = profile(tmp_path / "ours", "LCRec", tasks="[seqrec]", recipe="paper", **shape)
    rows = {row["part"]: row for row in found["results"]}
    parts = {name for name in rows if name not in ("a step", "floor")}
    assert parts == {"data", "forward", "head", "backward", "optimizer"}
    assert sum(rows[name]["ms"] for name in parts) == pytest.approx(rows["a step"]["ms"])
    assert rows["floor"]["share"] == pytest.approx(found["floor_share"]) and 0 < found["floor_share"] < 1
    assert "GFLOP/s of a product of 1024 x 1024" in capsys.readouterr().out


def test_recboles_models_and_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = profile(tmp_path / "theirs", "SASRec", hidden_size=8, inner_size=8, n_layers=1, n_heads=1)
    assert "head" not in {row["part"] for row in found["results"]}
    assert command_line.main(["profile", "--model", "SASRec", "--set", "n_layers"]) == 2
    assert "--set n_layers: expected NAME=VALUE" in capsys.readouterr().err
