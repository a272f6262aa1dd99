"""The benchmark of large catalogues, on a small one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.benchmarks import __main__ as command_line
from recbole_lcrec.benchmarks import scale
from recbole_lcrec.benchmarks.models import SIZES as MODELS
from recbole_lcrec.benchmarks.models import Shape


def directly(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def test_measures_every_part_and_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scale.SIZES, "XS", 400)
    monkeypatch.setitem(MODELS, "S", Shape(hidden=32, layers=1, heads=2, words=100))
    monkeypatch.setattr(scale, "REFERENCE", 100)
    monkeypatch.setattr(scale, "in_a_process", directly)
    file = tmp_path / "scale.json"
    assert command_line.main(["scale", "--test-users=8", "--repeats=1", f"--output={file}"]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["run"]["items"] == 400 and result["run"]["interactions"] == 480
    assert result["run"]["samples"] > 40 * 9 and result["run"]["users evaluated"] == 8
    stages = ("built", "samples", "evaluated")
    assert all(result["run"][f"{stage}, CPU s"] > 0 for stage in stages)
    peaks = [result["run"][f"{stage}, peak GB"] for stage in stages]
    assert 0 < peaks[0] <= peaks[1] <= peaks[2]
    assert result["trie"]["items"] == 400 and result["trie"]["trie, CPU s"] > 0
    assert result["decoding"]["items"] == 400 and result["decoding"]["users/s"] > 0


def test_every_item_has_an_interaction_and_a_title(tmp_path: Path) -> None:
    scale.write_catalogue(tmp_path, 200, 0)
    lines = (tmp_path / "large" / "large.inter").read_text().splitlines()[1:]
    users, items, times = zip(*(line.split("\t") for line in lines), strict=True)
    assert len(set(items)) == 200 and len(set(users)) == 20 and len(lines) == 240
    assert np.array_equal(np.array(times, dtype=int).reshape(20, 12), np.tile(np.arange(12), (20, 1)))
    titles = (tmp_path / "large" / "large.item").read_text().splitlines()[1:]
    assert len(titles) == 200 and all(len(line.split("\t")[1].split()) == 5 for line in titles)
