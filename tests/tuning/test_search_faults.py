"""Kills before the first trial, full disks, broken files, two searches in one folder.

Each is said clearly, and the search goes on afterwards. Kills of trials and of the search: test_search_killed.py; a
lost machine: test_search_cluster.py; a loss that is not a number: test_search.py.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import namespace
from fakes import TINY
from killing import after, in_child, kill
from searching import ROOT, arguments, curves, events, own_temporary_folder, prepare

from recbole_lcrec.cli import main as cli
from recbole_lcrec.utils.locks import run_lock

pytest.importorskip("ray")
pytest_plugins = ["single_thread"]

ONE = "learning_rate: {choice: [0.003]}\n"


def generative(folder: Path) -> list[str]:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "show_progress": False}))
    own = ("--model=", "--hidden_size", "--inner_size", "--n_layers")
    given = [a for a in arguments(folder, ONE, search_alg="grid", epochs=1) if not a.startswith(own)]
    return [*given, "--model=LCRec", f"--config_files={path}"]


def unfinished(folder: Path) -> Path:
    """Return the folder of a search that was stopped before its first trial."""
    from recbole_lcrec.tuning import search

    prepare(folder)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ray_session", stop)
        assert cli.main(arguments(folder, ONE, search_alg="grid")) == 130
    return folder / "out"


def test_a_second_search_or_run_in_the_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path)
    given, out = arguments(tmp_path, ONE, search_alg="grid"), tmp_path / "out"
    out.mkdir()
    plain = [argument for argument in given if not argument.startswith(("--tune", "--scheduler", "--search_alg"))]
    with run_lock(out):
        for argv in (given, plain):
            assert cli.main(argv) == 2
            assert "another run is writing there (process " in capsys.readouterr().err
            assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_search_begins_in_no_folder_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path)
    given, out = arguments(tmp_path, ONE, search_alg="grid"), tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("of a run")
    assert cli.main(given) == 2
    assert "holds files that no search of this version wrote (result.json)" in capsys.readouterr().err
    assert (out / "result.json").read_text() == "of a run" and len(list(out.iterdir())) == 1


def test_a_search_has_its_folder_to_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = unfinished(tmp_path)
    before = {path.name for path in out.iterdir()}
    with run_lock(out):
        assert cli.main([f"--resume_tune={out}"]) == 2
    assert "another run is writing there (process " in capsys.readouterr().err
    with (tmp_path / "toy" / "toy.item").open("a") as file:
        file.write("i99\tnew\tnew\n")
    assert cli.main([f"--resume_tune={out}"]) == 2
    assert "toy.item of the data set changed since the search began" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("search.json", lambda text: text[: len(text) // 2], "cannot be read as the record of a search"),
        ("search.json", lambda text: "", "cannot be read as the record of a search"),
        ("search.json", lambda text: "[]", "cannot be read as the record of a search"),
        (
            "search.json",
            lambda text: text.replace('"settings"', '"setings"'),
            "cannot be read as the record of a search",
        ),
        (
            "search.json",
            lambda text: text.replace('"num_samples"', '"num_sample"'),
            "cannot be read as the record of a search",
        ),
        ("trials.jsonl", lambda text: "{}\n" + text, "trials.jsonl, line 1: this is not an event of a search"),
        ("trials.jsonl", lambda text: text[5:], "trials.jsonl, line 1: this is not an event of a search"),
        ("trials.jsonl", lambda text: text.replace("planned", "reported"), "trials.jsonl, line 1"),
    ],
)
def test_broken_files_of_a_search_get_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[str], str], words: str
) -> None:
    out = unfinished(tmp_path)
    path = out / name
    path.write_text(damage(path.read_text()))
    broken = path.read_bytes()
    capsys.readouterr()
    assert cli.main([f"--resume_tune={out}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(path) in error and words in error, error
    assert path.read_bytes() == broken


@pytest.mark.slow
@pytest.mark.parametrize("place", ["index", "journal"])
def test_killed_before_the_first_trial(tmp_path: Path, place: str) -> None:
    prepare(tmp_path)
    given = generative(tmp_path)

    def action() -> int:
        from recbole_lcrec.quantizer.rqvae import RQVAE
        from recbole_lcrec.tuning.journal import Journal

        owner, name = (RQVAE, "save") if place == "index" else (Journal, "write")
        after(1, owner, name, kill)
        return cli.main(given)

    log, out = tmp_path / "log", tmp_path / "out"
    assert in_child(action, log) == -signal.SIGKILL, log.read_text()
    assert (out / "search.json").exists() == (place == "journal")
    assert cli.main([f"--resume_tune={out}"] if place == "journal" else given) == 0
    assert json.loads((out / "result.json").read_text())["trials"] == {"finished": 1}


@pytest.mark.slow
@pytest.mark.parametrize("room", ["8k", "200k"])
def test_a_full_disk_is_said_and_the_search_goes_on_when_there_is_room(tmp_path: Path, room: str) -> None:
    """The output folder is a small file system: its first files or a trial's checkpoint do not fit."""
    prepare(tmp_path)
    given, out = arguments(tmp_path, ONE, search_alg="grid", hidden_size=64), tmp_path / "out"
    out.mkdir()
    python = f"{sys.executable} -m recbole_lcrec"
    script = "\n".join([
        f"mount -t tmpfs -o size={room} none {out} || exit 99",
        f'{python} "$@" > first.log 2>&1; echo $? > first',
        f"mount -o remount,size=100m {out} || exit 99",
        f"if [ -e {out}/search.json ]; then set -- --resume_tune={out}; fi",
        f'{python} "$@" > second.log 2>&1; echo $? > second',
        f"cp -r {out} {tmp_path}/kept",
    ])  # fmt: skip
    with own_temporary_folder() as temporary:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        subprocess.run([*namespace(), "sh", "-c", script, "sh", *given], cwd=tmp_path, env=environment, check=True)
    first, second = ((tmp_path / f"{name}.log").read_text() for name in ("first", "second"))
    assert (tmp_path / "first").read_text().strip() == "2", first
    assert "cannot be written" in first and "No space left on device" in first and "Traceback" not in first, first
    assert (tmp_path / "second").read_text().strip() == "0", second
    assert [epoch for epoch, _ in curves(tmp_path / "kept")["t0001"]] == [1, 2, 3]
    assert [event["event"] for event in events(tmp_path / "kept")][-1] == "ended"
