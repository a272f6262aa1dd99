"""Output folders: nothing that a run did not write is removed, and a finished run only goes when there is another."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.cli.main import main
from recbole_lcrec.experiment import evaluate, load_experiment, run
from recbole_lcrec.training.checkpoint import write_manifest
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
ROOT = Path(__file__).resolve().parents[1]


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    if not (folder / "toy").exists():
        write_dataset(folder)
    places = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    return {**TINY, "epochs": 1, **places, **changes}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the data and of a finished LCRec run, ``out``."""
    folder = tmp_path_factory.mktemp("finished")
    run("LCRec", "toy", options(folder))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", str(finished), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"


# ---- files of somebody else -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["lm/model.safetensors", "config.yaml", ".config.yaml.swp", "notes.md", "manifest.json"]
)
def test_a_folder_with_other_files_is_refused_untouched(tmp_path: Path, name: str) -> None:
    given = options(tmp_path, output_dir=str(tmp_path / "mine"))
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text('{"name": "a page of mine"}')
    before = contents(tmp_path / "mine")
    with pytest.raises(UserError, match=rf"holds files that no run of this version wrote \({name.split('/')[0]}\)"):
        run("ExactPop", "toy", given)
    assert contents(tmp_path / "mine") == before


def test_what_a_run_did_not_write_survives_it(tmp_path: Path) -> None:
    run("ExactPop", "toy", options(tmp_path))
    out = tmp_path / "out"
    (out / "notes.md").write_text("mine")
    (out / ".config.yaml.swp").write_text("an editor's")
    run("ExactPop", "toy", options(tmp_path))
    assert (out / "notes.md").read_text() == "mine" and (out / ".config.yaml.swp").exists()


@pytest.mark.parametrize("name", ["lm/notes.txt", "checkpoint/epoch100.pt", "index.json"])
def test_a_file_of_mine_in_the_place_of_a_runs_is_named(tmp_path: Path, name: str) -> None:
    run("ExactPop", "toy", options(tmp_path))
    out = tmp_path / "out"
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(UserError, match=f"would replace {name}, which no run wrote"):
        run("ExactPop", "toy", options(tmp_path))
    assert contents(out) == before


def test_a_manifest_that_names_other_files_removes_none(tmp_path: Path) -> None:
    run("ExactPop", "toy", options(tmp_path))
    out, outside = tmp_path / "out", tmp_path / "outside.json"
    outside.write_text("mine")
    (out / "notes.md").write_text("mine")
    record = json.loads((out / "manifest.json").read_text())
    record["written"] += ["notes.md", "../outside.json", str(outside), "checkpoint/../../outside.json"]
    (out / "manifest.json").write_text(json.dumps(record))
    run("ExactPop", "toy", options(tmp_path))
    assert outside.exists() and (out / "notes.md").exists()


def test_an_evaluation_writes_into_no_folder_of_mine(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "evaluation.json").write_text("mine")
    with pytest.raises(UserError, match=r"no run of this version wrote \(evaluation.json\)"):
        evaluate(finished / "out", {"output_dir": str(target)})
    assert contents(target) == {"evaluation.json": b"mine"}
    for _ in range(2):
        evaluate(finished / "out", {"output_dir": str(tmp_path / "new")})


# ---- a finished run and the next one --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{"keep_last": -1}, {"checkpoint_every_n_steps": 0}, {"learner": "nonsense", "topk": [0]}]
)
def test_a_refused_command_leaves_the_finished_run(tmp_path: Path, bad: dict[str, Any]) -> None:
    run("BPR", "toy", options(tmp_path))
    before = contents(tmp_path / "out")
    with pytest.raises(UserError):
        run("BPR", "toy", options(tmp_path, **bad))
    assert contents(tmp_path / "out") == before


def test_a_run_that_fails_in_its_first_epoch_leaves_the_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("BPR", "toy", options(tmp_path))
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureTrainer, "_train_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("BPR", "toy", options(tmp_path, seed=7))
    assert contents(tmp_path / "out") == before
    assert evaluate(tmp_path / "out")["test_result"]


def test_a_second_run_says_that_it_replaces_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run("BPR", "toy", options(tmp_path))
    assert "holds an earlier run" not in caplog.text
    result = run("BPR", "toy", options(tmp_path, seed=7))
    assert (
        f"{tmp_path / 'out'} holds an earlier run, which this one replaces" in (tmp_path / "out/run.log").read_text()
    )
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_result"] == result["test_result"]
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["seed"] == 7
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_two_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    given = options(tmp_path, output_dir=None)
    folders = [run("ExactPop", "toy", given)["output_dir"] for _ in range(2)]
    assert [Path(folder).name for folder in folders] == [
        "ExactPop-toy-20260101-000000",
        "ExactPop-toy-20260101-000000-2",
    ]
    with pytest.raises(UserError):
        run("BPR", "toy", {**given, "keep_last": -1})
    assert len(list((tmp_path / "saved").iterdir())) == 2, "a refused run leaves no folder"


# ---- saved runs that have changed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "index.json", "quantizer/quantizer.json", "tokenizer/tokenizer.json", "lm/config.json",
     "user_texts.json"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_saved_run_that_has_changed_is_refused(copied: Path, name: str, how: str) -> None:
    path = copied / "out" / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=name) as caught:
        load_experiment(copied / "out", {"data_path": str(copied)})
    assert "\n" not in str(caught.value)


def test_a_run_without_a_manifest_is_loaded_with_a_warning(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copied / "out" / "manifest.json").unlink()
    load_experiment(copied / "out", {"data_path": str(copied)})
    assert "it is not known whether its files are as the run wrote them" in caplog.text


@pytest.mark.parametrize("odd", ["a list", "no other_parameter", "other_parameter is a number", "aliases", "no alias"])
def test_odd_checkpoints_get_one_message(copied: Path, odd: str) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint = copied / "out" / "checkpoint"
    if odd.startswith(("a list", "no other", "other")):
        states: dict[str, Any] = {"a list": [1], "no other_parameter": {"epoch": 0}}
        torch.save(states.get(odd, {"epoch": 0, "other_parameter": 3}), checkpoint / "state.pt")
    else:
        aliases = "[1]" if odd == "aliases" else '{"x": "nope"}'
        weights = load_file(checkpoint / "model.safetensors")
        save_file(weights, checkpoint / "model.safetensors", metadata={"aliases": aliases})
    write_manifest(checkpoint)
    with pytest.raises(UserError, match="no readable checkpoint") as caught:
        load_experiment(copied / "out", {"data_path": str(copied)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("index.json", "<a_0>", "<a_9>", "the tokenizer has no token <a_"),
        ("lm/config.json", '"vocab_size": ', '"vocab_size": 10, "was": ', "lm has fewer tokens than tokenizer"),
        ("lm/config.json", '"hidden_size": 16', '"hidden_size": 32', "the checkpoint does not fit the model"),
        ("lm/config.json", '"num_attention_heads": 2', '"num_attention_heads": 3', "no model can be loaded from it"),
    ],
)
def test_parts_of_two_runs_get_one_message(copied: Path, name: str, old: str, new: str, words: str) -> None:
    """Without a manifest, what does not fit together is found when it is put together."""
    (copied / "out" / "manifest.json").unlink()
    path = copied / "out" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=words) as caught:
        load_experiment(copied / "out", {"data_path": str(copied)})
    assert "\n" not in str(caught.value)


def test_an_odd_name_of_the_split_is_told(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copied / "out" / "result.json").write_text('{"split_sha256": 5}')
    evaluate(copied / "out", {"data_path": str(copied)})
    assert "split_sha256 is 5" in (copied / "out" / "evaluation.log").read_text()


# ---- what a run leaves ----------------------------------------------------------------------------------------------


def test_secrets_of_the_environment_are_in_no_file_and_wandb_stays_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "https_proxy", "GITHUB_TOKEN")
    for name in names:
        monkeypatch.setenv(name, f"http://me:s3cret-{name}@host:1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    wandb: Any = ModuleType("wandb")

    def init(dir: str, id: str, **_: Any) -> Any:  # noqa: A002 (wandb's own names)
        place = Path(dir) / "wandb" / id
        (place / "tmp").mkdir(parents=True)
        (place / "core.log").symlink_to(tmp_path / "toy")
        (place / "events").write_text("x")
        return SimpleNamespace(url="", log=lambda *_, **__: None, finish=lambda **_: None)

    wandb.Settings, wandb.setup, wandb.login, wandb.init = dict, lambda **_: None, lambda **_: False, init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    address = "http://me:s3cret-url@127.0.0.1:9/toy.zip"
    given = options(tmp_path, log_wandb=True, dataset_url=address)
    run("BPR", "toy", given)
    assert {path.name for path in tmp_path.iterdir()} == {"toy", "out"}
    (first,) = (tmp_path / "out" / "wandb").iterdir()
    assert [name for name, content in contents(tmp_path / "out").items() if b"s3cret" in content] == []
    run("BPR", "toy", given)
    (second,) = (tmp_path / "out" / "wandb").iterdir()
    assert first != second and (tmp_path / "toy").is_dir(), "links and empty folders of the earlier run are gone"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_all_files_of_a_run_have_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    given = options(tmp_path, embedding="text+cf")
    before = os.umask(umask)
    try:
        run("LCRec", "toy", given)
    finally:
        os.umask(before)
    for place in ("out", "cache"):
        for path in (tmp_path / place).rglob("*"):
            expected = (0o777 if path.is_dir() else 0o666) & ~umask
            assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_cache_that_is_deleted_all_the_time_changes_nothing(tmp_path: Path, finished: Path) -> None:
    given = options(tmp_path)
    script = f"while true; do rm -rf {tmp_path / 'cache'}; sleep 0.01; done"
    deleting = subprocess.Popen(["bash", "-c", script], stderr=subprocess.DEVNULL)
    try:
        result = run("LCRec", "toy", given)
    finally:
        deleting.kill()
        deleting.wait()
    assert result["test_result"] == json.loads((finished / "out" / "result.json").read_text())["test_result"]


def test_the_same_command_twice_at_once(tmp_path: Path) -> None:
    """One runs, the other is refused at once, or replaces it after it is done; nothing is left over."""
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(options(tmp_path)))
    command = [sys.executable, "-m", "recbole_lcrec", "--model=LCRec", "--dataset=toy", f"--config_files={path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert all("Traceback" not in text for text in said), said
    assert sorted(process.returncode for process in both) in ([0, 2], [0, 0])
    assert all("another run is writing there (process " in text for process, text in zip(both, said, strict=True)
               if process.returncode == 2)  # fmt: skip
    assert not list((tmp_path / "out").glob(".*")) and not list((tmp_path / "cache").rglob(".*"))
    assert main([f"--evaluate={tmp_path / 'out'}"]) == 0
