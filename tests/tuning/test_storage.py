"""Where trials leave what they write, and what the search hands to them; without Ray's processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import Given
from recbole_lcrec.experiment import build
from recbole_lcrec.tuning import reach, storage
from recbole_lcrec.tuning.data import SharedData, share_data
from recbole_lcrec.tuning.reach import Wanted, check_reach, files_of
from recbole_lcrec.tuning.space import read_space
from recbole_lcrec.tuning.storage import Storage, TrialFolder
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import StorageError
from recbole_lcrec.utils.timer import StageTimer

pytest_plugins = ["single_thread"]


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fill(folder: TrialFolder, epoch: int) -> None:
    write(folder.path / "config.yaml", yaml.safe_dump({"output_dir": str(folder.path), "epochs": 3}))
    write(folder.path / "checkpoint" / "weights", str(epoch))
    write(folder.path / "trial.log", "log" * epoch)
    write(folder.tensorboard / "events")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=["folder", "uri"])
def away(tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    """A storage that is not the output folder; every URI takes the same way through pyarrow."""
    path = str(tmp_path / "store")
    return Storage.of_search(tmp_path / "out", path if request.param == "folder" else f"file://{path}")


def test_trials_write_straight_into_an_output_folder_that_all_see(tmp_path: Path) -> None:
    direct = Storage.of_search(tmp_path, None)
    with direct.working_folder("t0001", anew=True) as folder:
        assert folder.root == tmp_path
        fill(folder, 1)
        folder.keep()
    write(folder.path / ".state-killed" / "state")
    with direct.working_folder("t0001", anew=False):
        assert files(folder.path) == ["checkpoint/weights", "config.yaml", "trial.log"]
    direct.drop_weights("t0001")
    assert files(tmp_path) == ["tensorboard/t0001/events", "trials/t0001/config.yaml", "trials/t0001/trial.log"]
    with direct.working_folder("t0001", anew=True):
        assert files(tmp_path) == []


def test_results_come_to_the_output_folder(tmp_path: Path, away: Storage) -> None:
    out = away.output_dir
    with away.working_folder("t0001", anew=True) as folder:
        assert not folder.root.is_relative_to(tmp_path / "out")
        fill(folder, 1)
        folder.keep()
        fill(folder, 2)
    assert not folder.root.exists() and not out.exists()
    away.bring("t0001", weights=True)
    assert files(out) == [
        *("tensorboard/t0001/events", "trials/t0001/checkpoint/weights"),
        *("trials/t0001/config.yaml", "trials/t0001/trial.log"),
    ]
    assert (out / "trials/t0001/checkpoint/weights").read_text() == "2"
    assert yaml.safe_load((out / "trials/t0001/config.yaml").read_text())["output_dir"] == str(out / "trials/t0001")
    with away.working_folder("t0001", anew=False, keep=False) as again:
        assert (again.path / "trial.log").read_text() == "loglog"
    away.drop_weights("t0001")
    assert not [path for path in (tmp_path / "store").rglob("weights")]


def test_of_a_trial_that_is_not_the_best_all_but_the_weights_is_brought(away: Storage) -> None:
    with away.working_folder("t0001", anew=True) as folder:
        fill(folder, 1)
    away.bring("t0001", weights=False)
    away.bring("t0002", weights=False)  # never began
    assert files(away.output_dir) == [
        "tensorboard/t0001/events", "trials/t0001/config.yaml", "trials/t0001/trial.log",
    ]  # fmt: skip


def test_half_an_upload_does_not_count(away: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.fs

    copy = pyarrow.fs.copy_files
    with away.working_folder("t0001", anew=True) as folder:
        fill(folder, 1)
        folder.keep()
        fill(folder, 2)
        with monkeypatch.context() as patch:

            def cut_off(*arguments: Any, **options: Any) -> None:
                copy(*arguments, **options)
                raise OSError(28, "No space left on device")

            patch.setattr(pyarrow.fs, "copy_files", cut_off)
            with pytest.raises(StorageError, match="No space left"):
                folder.keep()
        away.bring("t0001", weights=True)
        assert (away.output_dir / "trials/t0001/checkpoint/weights").read_text() == "1"
        folder.keep()
    away.bring("t0001", weights=True)
    assert (away.output_dir / "trials/t0001/checkpoint/weights").read_text() == "2"
    with away.working_folder("t0001", anew=True) as folder:
        assert files(folder.root) == [] and not away._versions("t0001")


def test_two_searches_do_not_share_a_place(tmp_path: Path) -> None:
    one, other = (Storage.of_search(tmp_path / name, "s3://bucket/x/") for name in ("a/out", "b/out"))
    assert one.where.startswith("s3://bucket/x/out-") and one.where != other.where
    assert one == Storage.of_search(tmp_path / "a/out", "s3://bucket/x")


# ---- what machines have to reach ------------------------------------------------------------------------------------


def test_files_that_options_name(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    write(tmp_path / "data" / "toy" / "toy.zip")
    write(tmp_path / "model" / "config.json", "{}")
    write(tmp_path / "e.npy", "12345")
    given = {"data_path": str(tmp_path / "data"), "text_encoder": f"file:{tmp_path}/e.npy", "epochs": 3}
    varied = [{"base_model": str(tmp_path / "model")}, {"base_model": "a/name-on-the-hub"}]
    found = files_of(["data_path", "text_encoder", "base_model", "epochs", "cache_dir"], [given, *varied], "toy")
    assert [(one.option, Path(one.path).name) for one in found] == [
        *(("base_model", "config.json"), ("data_path", "toy.inter"), ("data_path", "toy.item")),
        ("text_encoder", "e.npy"),
    ]
    assert found[-1].size == 5


def test_a_file_of_the_same_name_is_not_the_same(tmp_path: Path) -> None:
    path = str(write(tmp_path / "file"))
    assert reach._complaints("output_dir", str(tmp_path), None, [Wanted("base_model", path, 1)]) == []
    wanted = [Wanted("base_model", path, 2), Wanted("base_model", f"{path}2", 2), Wanted("data_path", path, 1)]
    assert reach._complaints("output_dir", str(tmp_path), None, wanted) == [f"base_model: {path} and 1 more"]
    (line,) = reach._complaints("output_dir", str(tmp_path), "no-sign", [])
    assert line == f"output_dir: {tmp_path} (another folder of that name, or none)"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("where", ["nothing://bucket/x", "/proc/x"])
def test_a_storage_that_cannot_be_written_to_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(UserError, match=r"option storage_path: .*Choose a folder or URI that this machine can write"):
        check_reach(None, Storage.of_search(tmp_path, where), [], None, "")


# ---- what the search hands to its trials ----------------------------------------------------------------------------


def shared(folder: Path, model: str, **space: Any) -> tuple[SharedData, dict[str, Any]]:
    options = TINY if model != "SASRec" else {"use_gpu": False, "show_progress": False, "hidden_size": 16}
    options = {**options, "data_path": str(write_dataset(folder / "data")), "cache_dir": str(folder / "cache")}
    config = LCRecConfig(model, "toy", config_dict=options)
    read = read_space({name: Given({"choice": values}, None, "x") for name, values in space.items()}, "x")
    return share_data(config, read, 1, StageTimer()), options


def test_a_trial_needs_neither_the_data_nor_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    data, options = shared(tmp_path, "LCRec", learning_rate=[0.1], lm_dropout=[0.1])
    assert data.varied == () and "data_path" not in data.reads and "cache_dir" not in data.reads
    whole = build("LCRec", "toy", {**options, "output_dir": str(tmp_path / "whole")})
    (tmp_path / "data").rename(tmp_path / "gone")
    (tmp_path / "cache").rename(tmp_path / "gone-too")
    for name in ("one", "other"):  # each has a copy of its own
        config = LCRecConfig("LCRec", "toy", cli={**options, "output_dir": str(tmp_path / name)}, has_data=True)
        trial = build(config=config, split=data.unpickled(), with_test=False)
        assert trial.split_sha256 == whole.split_sha256 == data.sha256
        assert (trial.dataset.catalogue.paths == whole.dataset.catalogue.paths).all()
        assert trial.dataset.catalogue.user_texts == whole.dataset.catalogue.user_texts
        trial.describe()
        assert (tmp_path / name / "index.json").read_bytes()
    assert not (tmp_path / "data").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("option", "values", "stages", "reads"),
    [
        ("train_batch_size", [16], {"text", "embedding", "index", "tokenizer", "user_texts"}, set()),
        ("history_separator", [", "], {"text", "embedding", "index", "tokenizer", "user_texts"}, set()),
        ("num_levels", [3, 4], {"text", "embedding", "tokenizer", "user_texts"}, {"cache_dir"}),
        ("lsa_dim", [8, 4], {"text", "tokenizer", "user_texts"}, {"cache_dir"}),
        ("item_text_fields", [["title"]], set(), {"data_path", "cache_dir"}),
    ],
)
def test_what_the_space_varies_is_made_by_every_trial(
    tmp_path: Path, option: str, values: list[Any], stages: set[str], reads: set[str]
) -> None:
    pytest.importorskip("ray")
    data, _ = shared(tmp_path, "LCRec", **{option: values})
    split = data.unpickled()
    assert split is not None and set(split[0].made) == stages
    assert data.reads & {"data_path", "cache_dir"} == reads
    assert data.varied == ((option,) if reads else ())


def test_a_split_that_the_space_varies_is_loaded_by_every_trial(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    data, _ = shared(tmp_path, "SASRec", MAX_ITEM_LIST_LENGTH=[5, 10])
    assert data.unpickled() is None and "data_path" in data.reads and data.varied == ("MAX_ITEM_LIST_LENGTH",)
    data, _ = shared(tmp_path, "SASRec", learning_rate=[0.1], n_layers=[1], loss_type=["CE"])
    assert data.unpickled() is not None and data.varied == () and "data_path" not in data.reads


def test_options_that_are_looked_at_are_noted(tmp_path: Path) -> None:
    config = LCRecConfig("SASRec", "toy", config_dict={"data_path": str(write_dataset(tmp_path))})
    with config.reads() as outer:
        with config.reads() as inner:
            assert config["epochs"] and "topk" in config
        assert config["seed"]
    assert config["n_layers"]
    assert (inner, outer) == ({"epochs", "topk"}, {"epochs", "topk", "seed"})
    assert storage.is_uri("s3://x") and not storage.is_uri("/x")
