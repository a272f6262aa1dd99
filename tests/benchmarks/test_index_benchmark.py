"""The benchmark of the item index, on catalogues of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.benchmarks import __main__ as command_line
from recbole_lcrec.benchmarks import index
from recbole_lcrec.benchmarks.processes import in_a_process
from recbole_lcrec.quantizer.costs import nearest_codes


def directly(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def test_prints_tables_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(index.SIZES, "XS", 2000)
    monkeypatch.setattr(index, "in_a_process", directly)
    file = tmp_path / "results" / "index.json"
    assert command_line.main(["index", "--size", "XS", "--output", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert [row["latents"] for row in result["mapping"]] == ["random", "clustered"]
    for row in result["mapping"]:
        assert row["items"] == 2000 and row["seconds"] > 0 and row["items/s"] > 0 and row["peak RSS GB"] > 0
        assert row["spilled"] <= row["moved"]
    for row in result["compared"]:
        assert row["without own path"] == 0 <= row["published: without own path"]
        assert row["times faster"] > 0
    assert {"cores", "threads", "load average", "numpy", "scipy", "python"} <= set(result)
    printed = capsys.readouterr().out
    assert "clustered" in printed and "over-full" in printed and "load average" in printed


def test_a_measurement_in_a_process_of_its_own() -> None:
    row = in_a_process(index.measure, "random", 1000, 0)
    assert row["items"] == 1000 and row["over-full"] == 0 and row["spilled"] == 0


def test_clustered_catalogues_have_the_share_of_over_full_prefixes_they_promise() -> None:
    latents, books = index.make_catalogue("clustered", 20_000, 0)
    assert latents.shape == (20_000, 32) and [book.shape for book in books] == [(256, 32)] * 4
    items = np.unique(nearest_codes(latents, books)[:, :-1], axis=0, return_counts=True)[1]
    assert 0.04 <= (items > 256).mean() <= 0.07
    again = index.make_catalogue("clustered", 20_000, 0)[0]
    np.testing.assert_array_equal(latents, again)


@pytest.mark.parametrize("arguments", [[], ["none"], ["index", "--size", "XL"], ["index", "--seed", "x"]])
def test_wrong_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_help_lists_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and all(name in printed for name in command_line.BENCHMARKS)
