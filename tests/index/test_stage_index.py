"""--stage=index: the index alone, with its report, and a run that takes it from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.experiment import run
from recbole_lcrec.utils.errors import UserError


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {**TINY, "data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache"), **changes}
    return {"stage": "index", "output_dir": str(folder / "index"), **given}


@pytest.mark.parametrize("quantizer", ["rqvae", "cid"])
def test_stage_index_builds_and_stops_and_a_run_takes_it_from_there(tmp_path: Path, quantizer: str) -> None:
    result = run("LCRec", "toy", options(tmp_path, quantizer=quantizer, cid_clusters=4))
    names = {path.name for path in (tmp_path / "index").iterdir()}
    made = {"index.json", "quantizer", "report.json", "report.html"}
    assert names == {"config.yaml", "result.json", "run.log", "manifest.json"} | made
    assert result["index"]["collision_rate_after"] == 0
    file = tmp_path / "index" / "index.json"
    taken = {"stage": "all", "index_file": str(file), "output_dir": str(tmp_path / "run"), "epochs": 1}
    run("LCRec", "toy", {**options(tmp_path), **taken})
    assert (tmp_path / "run" / "index.json").read_text() == file.read_text()
    assert (tmp_path / "run" / "quantizer" / "quantizer.json").is_file()
    again = options(tmp_path, index_file=str(file), output_dir=str(tmp_path / "again"))
    run("LCRec", "toy", again)  # a report of a ready index
    assert json.loads((tmp_path / "again" / "report.json").read_text())["mapping"] is None


def test_stage_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage is indexx"):
        run("LCRec", "toy", options(tmp_path, stage="indexx"))
    with pytest.raises(UserError, match="Pop has no item index"):
        run("Pop", "toy", options(tmp_path))
