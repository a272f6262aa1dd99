"""The benchmark of training, on a model of milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_lcrec.benchmarks import __main__ as command_line
from recbole_lcrec.benchmarks import training
from recbole_lcrec.benchmarks.models import SIZES, Shape


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "XS", Shape(hidden=32, layers=2, heads=2, words=100))
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "BATCHES", 2)


def test_all_recipes_compute_the_same_loss_and_are_written_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda body, **options: body)  # takes minutes, and a compiler
    file = tmp_path / "training.json"
    options = ["--size=XS", "--repeats=1", "--options", f"--output={file}"]
    assert command_line.main(["training", *options]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert len(result["results"]) == len(training.RECIPES) + len(training.OPTIONS)
    assert result["results"][0]["times plain"] == 1 and all(row["tokens/s"] > 0 for row in result["results"])
    assert result["largest difference"] < training.TOLERANCE


def test_another_loss_is_found_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(training.SampleLogits):
        def __call__(self, *arguments: Any) -> torch.Tensor:
            return super().__call__(*arguments).roll(1, 0)

    monkeypatch.setattr(training, "SampleLogits", Wrong)
    with pytest.raises(RuntimeError, match="'logits where there is loss' differs from the plain recipe"):
        command_line.main(["training", "--size=XS", "--repeats=1"])


def test_wrong_options_end_in_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["training", "--size=XS", "--repeats=0"]) == 2
    assert "training: repeats: expected 1 or more." in capsys.readouterr().err
