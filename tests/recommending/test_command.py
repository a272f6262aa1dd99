"""The file that ``--recommend`` writes: rows, formats, interruptions, mistakes, and a cluster."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, write_dataset

from recbole_lcrec import Recommender
from recbole_lcrec.cli.main import main
from recbole_lcrec.experiment import run
from recbole_lcrec.recommending import answering, askers, job, output
from recbole_lcrec.utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_dataset(tmp_path_factory.mktemp("run"))
    given = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    run("LCRec", "toy", {**TINY, **given, "epochs": 1})
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PART", 16)
    monkeypatch.setattr(askers.parts_of, "__defaults__", (16,))


def command(folder: Path, *more: str) -> int:
    return main([f"--recommend={folder / 'out'}", "--show_progress=False", *more])


def test_all_users_in_all_formats(folder: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    (tmp_path / "among").write_text("i1\ni2\n\ni3\n")
    files = {suffix: tmp_path / f"recs{suffix}" for suffix in (".csv", ".jsonl", ".parquet")}
    for path in files.values():
        assert command(folder, "--users=all", "--topk=[1,2]", f"--among={tmp_path / 'among'}", f"--output={path}") == 0
    with files[".csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in files[".jsonl"].read_text(encoding="utf-8").splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows
    table = parquet.read_table(files[".parquet"]).to_pylist()
    assert [{**row, "score": None} for row in table] == [{**line, "score": None} for line in lines]
    users = Recommender.load(folder / "out").users.tokens
    found = Recommender.load(folder / "out").recommend_users(users, 2, among=["i1", "i2", "i3"])
    expected = [(user, str(rank), item, title) for user, one in zip(users, found, strict=True)
                for rank, item, title, _ in one.rows()]  # fmt: skip
    assert [(row["user"], row["rank"], row["item"], row["title"]) for row in rows] == expected
    assert len(rows) == 80 and {row["source"] for row in rows} == {"model"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["among", "recs.csv", "recs.jsonl", "recs.parquet"]


def test_an_interrupted_command_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path, partial = tmp_path / "whole.csv", tmp_path / "recs.csv", tmp_path / "recs.csv.partial"
    assert command(folder, "--users=all", f"--output={whole}") == 0
    write = output.Parts.write

    def fails(self: output.Parts, number: int, data: bytes) -> None:
        if number == 2:
            raise UserError("the plug was pulled")
        write(self, number, data)

    with monkeypatch.context() as patch:
        patch.setattr(output.Parts, "write", fails)
        assert command(folder, "--users=all", f"--output={path}") == 2
    assert sorted(file.name for file in partial.glob("part-*")) == ["part-000000.csv", "part-000001.csv"]
    assert not path.exists()
    assert command(folder, "--users=all", f"--output={path}", "--topk=3") == 2
    assert "different: topk" in capsys.readouterr().err
    answered: list[int] = []
    answer = answering.Answering.answer
    monkeypatch.setattr(
        answering.Answering, "answer", lambda self, *rest: (answered.append(rest[1].number), answer(self, *rest))[1]
    )
    assert command(folder, "--users=all", f"--output={path}") == 0
    assert answered == [2] and path.read_bytes() == whole.read_bytes() and not partial.exists()
    assert command(folder, "--users=all", f"--output={path}") == 2
    assert "exists already" in capsys.readouterr().err
    partial.mkdir()
    (partial / "thesis.txt").write_text("mine")
    path.unlink()
    assert command(folder, "--users=all", f"--output={path}") == 2 and (partial / "thesis.txt").exists()


def test_histories_and_users_of_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "histories.csv"
    given.write_text('user,history\na,i1 i2 nope\nb,\n"c, d","[""i3""]"\n', encoding="utf-8")
    path = tmp_path / "recs.jsonl"
    assert command(folder, f"--histories={given}", f"--output={path}") == 2
    assert "1 unknown items, e.g. 'nope'" in capsys.readouterr().err and not path.exists()
    more = ("--unknown=skip", "--titles=False", "--topk=2")
    assert command(folder, f"--histories={given}", f"--output={path}", *more) == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["user"] for line in lines] == ["a", "a", "b", "b", "c, d", "c, d"]
    assert [line["source"] for line in lines[::2]] == ["model", "popularity", "model"] and "title" not in lines[0]
    (tmp_path / "users").write_text("u1\nstranger\nu2\n")
    users = tmp_path / "users.csv"
    assert command(folder, f"--users={tmp_path / 'users'}", f"--output={users}") == 2
    assert command(folder, f"--users={tmp_path / 'users'}", f"--output={users}", "--unknown=skip", "--topk=1") == 0
    with users.open(newline="") as file:
        found = [(row["user"], row["source"]) for row in csv.DictReader(file)]
    assert found == [("u1", "model"), ("stranger", "popularity"), ("u2", "model")]


def test_histories_read_alike_from_all_formats(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows: list[dict[str, Any]] = [{"user": "a", "history": ["i1", "i 2"]}, {"user": "b", "history": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "h.parquet")
    (tmp_path / "h.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "h.csv").write_text('history,user\n"[""i1"", ""i 2""]",a\n,b\n')
    for suffix in (".parquet", ".jsonl", ".csv"):
        assert list(askers.read_histories(tmp_path / f"h{suffix}")) == [("a", ["i1", "i 2"]), ("b", [])]
    for name, text, message in (
        ("h.jsonl", '{"user": "a"}', "line 1: expected"),
        ("h.jsonl", '{"user": "a", "history": {"x": 1}}', "line 1: the history is"),
        ("h.csv", "who,what\na,b\n", "expected the columns user and history"),
        ("h.csv", "user,history\n,i1\n", "line 2: the user is ''"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            list(askers.read_histories(tmp_path / name))


def test_mistakes_are_told_at_once_and_without_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from recbole_lcrec.cli.main import main; status = main(sys.argv[1:]);"
        "print('torch' in sys.modules, status)"
    )
    arguments = ["--recommend=here", "--model=Pop", "--histories=none.csv", "--users=all", "--output=recs.txt"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "False 2\n"
    for words in (
        "--model does not go",
        "not the folder of a finished run",
        "both are given",
        ".jsonl",
        "no such file",
    ):
        assert words in done.stderr
    assert main(["--model=Pop", "--dataset=toy", f"--data_path={folder}", "--users=all"]) == 2


@pytest.mark.slow
def test_a_cluster_writes_the_same_file(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    from ray_nodes import cluster_of

    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert command(folder, "--users=all", f"--output={here}") == 0
    with cluster_of(1, 1) as cluster:
        assert command(folder, "--users=all", f"--output={there}", f"--address={cluster.address}") == 0
    assert there.read_bytes() == here.read_bytes()
