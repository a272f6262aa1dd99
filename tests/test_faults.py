"""Kills, full disks, broken files, two runs in one folder, a loss that is not a number.

Each is said clearly, nothing half-written is taken for whole, and the same command succeeds afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fakes import TINY, write_dataset
from killing import after, in_child, kill, wait_for

from recbole_lcrec.cli.main import main
from recbole_lcrec.training.course import Course
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import StorageError, atomic_folder, atomic_path, mend, write_text
from recbole_lcrec.utils.locks import run_lock

pytest_plugins = ["single_thread"]


def arguments(folder: Path, model: str = "LCRec", **changes: Any) -> list[str]:
    if not (folder / "toy").exists():
        write_dataset(folder)
    path = folder / "options.yaml"
    path.write_text(yaml.safe_dump({**TINY, "epochs": 1, **changes}))
    places = [f"--data_path={folder}", f"--cache_dir={folder / 'cache'}", f"--output_dir={folder / 'out'}"]
    return [f"--model={model}", "--dataset=toy", f"--config_files={path}", *places]


def whole(folder: Path) -> dict[str, Any]:
    """Return the result of a run whose folder has nothing left over in it."""
    assert not list((folder / "out").glob(".*"))
    return json.loads((folder / "out" / "result.json").read_text())["test_result"]


# ---- kill -9 and SIGTERM outside training ---------------------------------------------------------------------------


def hang(file: Path) -> None:
    """Say that the place is reached and wait for the signal."""
    import time

    file.touch()
    time.sleep(60)


def index_building(then: Callable[[], None]) -> Callable[[], None]:
    def prepare() -> None:
        from recbole_lcrec.quantizer.training import _Training

        after(3, _Training, "_epoch", then)

    return prepare


def index_writing(then: Callable[[], None]) -> Callable[[], None]:
    def prepare() -> None:
        from recbole_lcrec.quantizer.rqvae import RQVAE

        after(1, RQVAE, "save", then)

    return prepare


def embedding_writing(then: Callable[[], None]) -> Callable[[], None]:
    def prepare() -> None:
        from recbole_lcrec.embedding.lsa import LSA

        after(1, LSA, "save", then)

    return prepare


@pytest.mark.parametrize("stage", [index_building, index_writing, embedding_writing])
def test_killed_before_training(tmp_path: Path, stage: Callable[..., Callable[[], None]]) -> None:
    def action() -> int:
        stage(kill)()
        return main(arguments(tmp_path))

    log = tmp_path / "log"
    assert in_child(action, log) == -signal.SIGKILL, log.read_text()
    assert main([f"--resume={tmp_path / 'out'}"]) == 0
    assert "it starts from the beginning" in (tmp_path / "out" / "run.log").read_text()
    resumed = whole(tmp_path)
    assert main(arguments(tmp_path)) == 0
    assert whole(tmp_path) == resumed


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_index_is_built_ends_at_once_and_cleans_up(tmp_path: Path, signum: signal.Signals) -> None:
    given = arguments(tmp_path)

    def action() -> int:
        index_writing(lambda: hang(tmp_path / "there"))()
        return main(given)

    log = tmp_path / "log"
    assert in_child(action, log, (signum, tmp_path / "there")) == 128 + signum, log.read_text()
    assert log.read_text().rstrip().endswith(f"stopped by {signum.name}. Start it again with the same command")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache" / "index").iterdir())


# ---- full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [200, 9_000, 30_000, 70_000])
def test_no_room_for_files_of_a_run(tmp_path: Path, limit: int) -> None:
    """Files cannot grow beyond a limit, as under a quota: cache, index, checkpoint, log, whichever comes first."""
    given = arguments(tmp_path)

    def action() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        status = main(given)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return status

    (tmp_path / "tell").mkdir()
    log = tmp_path / "tell" / "log"
    os.mkfifo(log.with_suffix(".pipe"))
    reader = os.open(log.with_suffix(".pipe"), os.O_RDONLY | os.O_NONBLOCK)  # a pipe has no size to be limited
    status = in_child(action, log.with_suffix(".pipe"))
    said = os.read(reader, 1 << 20).decode()
    os.close(reader)
    assert status == 2, said
    error = said[said.rindex("error: ") :]
    assert "cannot be written" in error and "Traceback" not in said, said
    leftovers = [path for path in tmp_path.rglob(".*") if path.parent.name != "out"]
    assert leftovers == []
    assert main(given) == 0
    assert whole(tmp_path)


def test_a_full_disk_while_a_checkpoint_is_written_loses_only_what_came_after_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path, "SASRec", epochs=4, train_batch_size=32)
    assert main(given) == 0
    expected = whole(tmp_path)
    calls = 0
    original = torch.save

    def save(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*arguments, **options)

    monkeypatch.setattr(torch, "save", save)
    capsys.readouterr()
    assert main(given) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and "MB" in error and "Traceback" not in error
    out = tmp_path / "out"
    assert not list((out / "resume").glob(".*")) and len(list((out / "resume").glob("step-*"))) >= 1
    assert main([f"--resume={out}"]) == 0
    assert whole(tmp_path) == expected


@pytest.mark.parametrize("kind", ["path", "folder"])
def test_a_failed_write_keeps_what_was_there(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    context = atomic_path if kind == "path" else atomic_folder
    with context(target) as temporary:
        (temporary if kind == "path" else temporary / "file").write_text("old")
    for error in (OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: no space (os error 28)")):
        with pytest.raises(StorageError, match="target: cannot be written: No space left"), context(target):
            raise error
    with pytest.raises(ZeroDivisionError), context(target):
        raise ZeroDivisionError
    assert (target if kind == "path" else target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(("name", "number"), [("fsync", errno.EINVAL), ("chmod", errno.EPERM)])
def test_file_systems_without_syncing_or_permissions_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refused)
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "private").touch(0o600)
    write_text(tmp_path / "file", "x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "private"]


def test_mend_brings_a_folder_back_that_was_being_replaced(tmp_path: Path) -> None:
    old = tmp_path / ".checkpoint.0123abcd.old" / "checkpoint"
    old.mkdir(parents=True)
    (tmp_path / ".checkpoint.4567cdef").mkdir()
    (tmp_path / ".checkpoint.swp").write_text("an editor's")
    mend(tmp_path / "checkpoint")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".checkpoint.swp", "checkpoint"]


# ---- broken files ---------------------------------------------------------------------------------------------------


WHOLE_RUN: dict[str, Path] = {}


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_broken_caches_are_told_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(tmp_path, embedding="text+cf")
    assert main(given) == 0
    expected = whole(tmp_path)
    files = sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert {path.suffix for path in files} >= {".npy", ".json", ".safetensors"}
    for damage in (cut_in_half, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\x00\xff" * 50)):
        for path in files:
            damage(path)
        capsys.readouterr()
        assert main(given) == 0
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        warnings = [line for line in said.out.splitlines() if "WARNING" in line]
        assert len([line for line in warnings if "anew" in line]) == 6, warnings
        assert whole(tmp_path) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "checkpoint/model.safetensors", "checkpoint/state.pt", "checkpoint/manifest.json"),
        *("index.json", "tokenizer/tokenizer.json", "user_texts.json", "lm/config.json", "quantizer/quantizer.json"),
    ],
)
def test_a_run_with_a_broken_file_gets_one_message(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    given = arguments(tmp_path)
    out = tmp_path / "out"
    if (stored := WHOLE_RUN.get("out")) is None:
        assert main(given) == 0
        stored = WHOLE_RUN["out"] = tmp_path_factory.mktemp("whole") / "out"
        shutil.copytree(out, stored)
    else:
        shutil.copytree(stored, out)
    cut_in_half(out / name)
    capsys.readouterr()
    assert main([f"--evaluate={out}", f"--data_path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert str(out / name.split("/")[0]) in error and "Traceback" not in error and error.startswith("error: ")


def test_a_broken_result_is_told_and_evaluated_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "BPR")) == 0
    out, expected = tmp_path / "out", whole(tmp_path)
    cut_in_half(out / "result.json")
    assert main([f"--resume={out}"]) == 2
    assert f"--evaluate={out}" in capsys.readouterr().err
    assert main([f"--evaluate={out}"]) == 0
    assert json.loads((out / "evaluation.json").read_text())["test_result"] == expected


def test_an_unreadable_run_file_of_an_interrupted_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        after(5, Course, "add", kill)
        return main(arguments(tmp_path, "BPR", epochs=2, checkpoint_every_n_steps=1))

    assert in_child(action, tmp_path / "log") == -signal.SIGKILL
    out = tmp_path / "out"
    cut_in_half(out / "resume" / "run.json")
    assert main([f"--resume={out}"]) == 2
    assert "run.json: cannot be read" in capsys.readouterr().err
    (out / "resume" / "run.json").unlink()
    assert main([f"--resume={out}"]) == 0
    assert whole(tmp_path)


# ---- two runs, and a loss that is not a number ----------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(tmp_path, "BPR")
    there, log = tmp_path / "there", tmp_path / "log"

    def action() -> int:
        after(1, FeatureTrainer, "evaluate", lambda: hang(there))
        return main(given)

    process = os.fork()
    if process == 0:
        os._exit(in_child(action, log, None) & 0xFF)
    wait_for(there)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    for argv in (given, [f"--resume={tmp_path / 'out'}"]):
        assert main(argv) == 2
        assert "another run is writing there (process " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    running = int((tmp_path / "out" / ".lock").read_text().split()[1])
    os.kill(running, signal.SIGKILL)
    os.waitpid(process, 0)
    assert main(given) == 0, "a killed run leaves no lock"
    assert whole(tmp_path)


def test_the_lock_holds_within_a_process_and_goes_with_its_block(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(UserError, match="another run"), run_lock(tmp_path):
            pass
    with run_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["SASRec", "LCRec"])
def test_a_loss_that_is_no_number(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path, model, epochs=3, train_batch_size=32)
    original = FeatureTrainer._train_step

    def step(self: Any, group: Any, loss_func: Any, epoch: int, number: int) -> Any:
        if (epoch, number) == (1, 2):
            return original(self, group, lambda batch: torch.tensor(float("nan")), epoch, number)
        return original(self, group, loss_func, epoch, number)

    monkeypatch.setattr(FeatureTrainer, "_train_step", step)
    assert main(given) == 1
    error = capsys.readouterr().err
    out = tmp_path / "out"
    for words in ("loss is nan in epoch 2, step 3, batch 3", f"of epoch 1, is kept in {out / 'checkpoint'}"):
        assert words in error, error
    assert ("the first ends with" if model == "LCRec" else "the first of RecBole's user id") in error
    assert len(error.splitlines()) == 1
    assert main([f"--evaluate={out}"]) == 0
    monkeypatch.undo()
    assert main([f"--resume={out}"]) == 0
    assert whole(tmp_path)


def test_weights_that_are_no_numbers_are_never_kept_as_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path, "BPR", epochs=3)
    original = Course.end

    def end(self: Any) -> Any:
        if self._epoch == 1:
            with torch.no_grad():
                next(self._trainer.model.parameters()).fill_(float("inf"))
        return original(self)

    monkeypatch.setattr(Course, "end", end)
    assert main(given) == 1
    assert "is no longer finite in epoch 2" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "resume").glob("step-*"))) == 1


def test_write_text_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _o=original, _n=name: (order.append(_n), _o(*a))[1])
    write_text(tmp_path / "file", "x")
    assert order == ["fsync", "replace", "fsync"]
    assert np.all([path.name == "file" for path in tmp_path.iterdir()])
