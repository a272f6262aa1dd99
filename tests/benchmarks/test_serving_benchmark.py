"""The benchmark of serving on a tiny run: the command line's own server is started, asked, pestered and stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package)

from fakes import TINY, write_dataset  # noqa: E402

from recbole_lcrec.benchmarks import __main__ as command_line  # noqa: E402
from recbole_lcrec.benchmarks import serving  # noqa: E402
from recbole_lcrec.benchmarks.http_clients import Answers, same  # noqa: E402
from recbole_lcrec.experiment import run  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_command_lines_server_answers_what_the_model_says_and_stops_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_dataset(tmp_path)
    places = {"data_path": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "output_dir": str(tmp_path / "out")}
    run("LCRec", "toy", {**TINY, "epochs": 1, **places})
    file = tmp_path / "serving.json"
    numbers = ["--clients", "1", "4", "--requests=24", "--histories=8", "--crowd=50", "--k=3"]
    assert command_line.main(["serving", str(tmp_path / "out"), *numbers, f"--output={file}"]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert [row["clients"] for row in result["results"]] == [1, 4] and result["results"][0]["times one client"] == 1
    storm = result["all at once"]
    assert storm["right"] + storm["told to come back (503)"] == 24 + 50
    assert (storm["wrong"], storm["lost"], result["run_dir"]) == (0, 0, "out")
    assert "Right answers in 2 x 24 requests" in capsys.readouterr().out


def test_a_wrong_answer_is_found() -> None:
    expected = [("a", -1.0), ("b", -2.0), ("c", -2.0001)]

    def answer(*items: tuple[str, float]) -> list[dict[str, Any]]:
        return [{"item": item, "title": None, "score": score} for item, score in items]

    assert same(answer(*expected), expected)
    assert same(answer(("a", -1.0), ("c", -2.0), ("b", -2.0001)), expected)  # nearly equal scores may change places
    assert not same(answer(("b", -1.0), ("a", -2.0), ("c", -2.0001)), expected)
    assert not same(answer(("a", -1.1), *expected[1:]), expected)
    assert not same(answer(*expected[:2]), expected)
    with pytest.raises(RuntimeError, match="0 wrong, 1 lost"):
        serving._all_right(Answers(lost=1), "here")
