"""The benchmarks run at their smallest size and write what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_lcrec.benchmarks.__main__ import main


def test_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--size=XS", f"--output={tmp_path / 'i.json'}"]) == 0
    written = json.loads((tmp_path / "i.json").read_text())
    kinds = {row["kind"]: row for row in written["rows"]}
    assert list(kinds) == ["random", "clustered", "crowded"] and "crowded" in capsys.readouterr().out
    assert kinds["crowded"]["over-full prefixes"] > 0.05 < kinds["crowded"]["spilled"]
    assert kinds["random"]["mean rank"] < 0.1
