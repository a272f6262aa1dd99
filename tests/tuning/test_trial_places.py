"""What trials are sent, what they send back, and what a pbt copy takes over; without Ray's processes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fakes import write_dataset

from recbole_lcrec import build, cache_use
from recbole_lcrec.config.configuration import absolute_options, files_of, with_files_at
from recbole_lcrec.embedding.huggingface import cache_key
from recbole_lcrec.training.randomness import random_states
from recbole_lcrec.tuning import shipping
from recbole_lcrec.tuning.delivery import Delivery, Depot
from recbole_lcrec.tuning.place import OwnPlace, SharedPlace, place_of
from recbole_lcrec.tuning.shipping import Cargo, Parcel, packed, ship, unpack
from recbole_lcrec.tuning.trial import Reporter, TrialInputs, go_on_from, latest_point

pytest_plugins = ["single_thread"]


class LocalActor:
    """Calls an object's methods as if it were an actor."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._target, name))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Ray's store and calls within this process; the machine's temporary folder is ``tmp_path / "machine"``."""
    real = pytest.importorskip("ray")
    monkeypatch.setattr(real, "put", lambda value: value)
    monkeypatch.setattr(real, "get", lambda value: value)
    (tmp_path / "machine").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "machine"))
    return real


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def cargo(folder: Path) -> Cargo:
    write_dataset(folder / "data")
    write(folder / "data" / "toy" / "toy.user.json", "{}")
    write(folder / "data" / "toy" / "toy.zip")
    write(folder / "data" / "toy" / "notes.txt")
    write(folder / "index" / "index.json", "{}")
    write(folder / "index" / "quantizer" / "quantizer.json", "{}")
    write(folder / "index" / "report.html")
    write(folder / "model" / "config.json", "{}")
    cache = folder / "cache"
    used = [write(cache / "embeddings" / "k.npy"), cache / "index" / "k", cache / "not there"]
    write(cache / "index" / "k" / "index.json")
    write(cache / "index" / "other" / "index.json")
    options = [{"index_file": str(folder / "index" / "index.json")}, {"text_encoder": f"hf:{folder / 'model'}"}]
    data = folder / "data"
    return Cargo(data, data / "toy", "toy", cache, used, options)


def inputs(folder: Path, **changes: Any) -> TrialInputs:
    given = {"data_path": f"{folder}/data", "cache_dir": f"{folder}/cache", "text_encoder": f"hf:{folder}/model"}
    fields: dict[str, Any] = {
        "model": "SASRec", "dataset": "toy", "given": given, "folder": folder / "out", "split": None,
        "metric": "ndcg@10", "bigger": True, "threads": 1, "gpus": 0, "population_every": 0, **changes,
    }  # fmt: skip
    return TrialInputs(**fields)


def test_what_trials_read_is_sent_and_nothing_else(tmp_path: Path, ray: Any) -> None:
    files, places, models = cargo(tmp_path).listed()
    assert sorted(files) == [
        *("cache/embeddings/k.npy", "cache/index/k/index.json"),
        *("data/toy/toy.inter", "data/toy/toy.item", "data/toy/toy.user.json"),
        *("files/0/index.json", "files/0/quantizer/quantizer.json", "files/1/model/config.json"),
    ]
    assert places[str(tmp_path / "data")] == "data" and places[str(tmp_path / "model")] == "files/1/model"
    assert list(models) == ["files/1/model"]


def test_a_machine_unpacks_once_however_many_trials_ask(
    tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipment = ship(ray, cargo(tmp_path), tmp_path / "out", None)
    times: list[Path] = []

    def counting(ray: Any, parcels: Any, folder: Path) -> None:
        times.append(folder)
        unpack(ray, parcels, folder)

    monkeypatch.setattr(shipping, "unpack", counting)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(shipment.unpacked())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 1 and len(set(found)) == 1 and len(found) == 4
    assert (found[0] / "data/toy/toy.inter").read_bytes() == (tmp_path / "data/toy/toy.inter").read_bytes()
    assert (found[0].parent.stat().st_mode & 0o777) == 0o700
    other = ship(ray, cargo(tmp_path / "b"), tmp_path / "out", None)
    assert other.name == shipment.name and other.key == shipment.key  # the same content, wherever it lay
    write(tmp_path / "data" / "toy" / "toy.user.json", "[]")
    assert ship(ray, cargo(tmp_path), tmp_path / "out", None).key == shipment.key
    write(tmp_path / "data" / "toy" / "toy.review", "[]")
    assert ship(ray, cargo(tmp_path), tmp_path / "out", None).key != shipment.key


def test_a_copied_model_is_found_in_the_cache_under_its_original_s_key(tmp_path: Path, ray: Any) -> None:
    shipment = ship(ray, cargo(tmp_path), tmp_path / "out", None)
    there = shipment.unpacked() / "files/1/model"
    assert cache_key(str(there), 9, "cpu") == cache_key(str(tmp_path / "model"), 9, "cpu")


def test_large_files_go_in_pieces_and_wrong_content_is_refused(
    tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "_CHUNK", 4)
    for content in ("", "abc", "abcd", "abcdefghij"):
        parcel = packed(ray, "a/b", write(tmp_path / "file", content))
        assert len(parcel.chunks) == max(-(-len(content) // 4), 1)
        unpack(ray, [parcel], tmp_path / "there")
        assert (tmp_path / "there" / "a" / "b").read_text() == content
    with pytest.raises(OSError, match="other content"):
        unpack(ray, [Parcel("x", parcel.sha256, parcel.chunks[:-1])], tmp_path)


def test_files_of_options_are_found_and_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lsa", "file", "model", "e.npy"):
        write(tmp_path / name)  # files that are named like words
    options = {"text_encoder": "lsa", "user_text": "file", "base_model": "model", "epochs": 3}
    assert files_of(options) == {"model": str(tmp_path / "model")}
    assert absolute_options(options) == {**options, "base_model": str(tmp_path / "model")}
    moved = with_files_at({"text_encoder": "file:e.npy", "base_model": "other"}, {"e.npy": "/there/e.npy"})
    assert moved == {"text_encoder": "file:/there/e.npy", "base_model": "other"}
    assert absolute_options({"user_text": "hf:model"}) == {"user_text": f"hf:{tmp_path / 'model'}"}


def test_used_entries_of_caches_are_recorded(tmp_path: Path) -> None:
    with cache_use.recorded() as outer, cache_use.recorded() as inner:
        cache_use.used(tmp_path)
        cache_use.used(tmp_path)
    cache_use.used(tmp_path / "later")
    assert outer == inner == [tmp_path]


def test_results_come_back_whole_with_the_paths_of_the_search(tmp_path: Path, ray: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shipment = ship(ray, cargo(tmp_path), out, LocalActor(Depot(str(out))))
    place = place_of(inputs(tmp_path, shipment=shipment))
    assert isinstance(place, OwnPlace) and type(place_of(inputs(tmp_path))) is SharedPlace
    here = place.inputs
    options = here.options_of("t0001", {})
    assert options["data_path"].startswith(str(tmp_path / "machine")) and Path(options["data_path"]).is_dir()
    assert options["text_encoder"] == f"hf:{shipment.unpacked()}/files/1/model"

    folder = here.folder_of("t0001")
    write(folder / "config.yaml", yaml.safe_dump({**options, "epochs": 3}))
    write(folder / "checkpoint" / "state", "1")
    write(folder / "population" / "epoch-000001" / "state", "2")
    write(folder / "population" / "epoch-000001.json", "{}")
    write(folder / "trial.log", "log")
    write(folder / ".hidden", "")
    write(here.folder / "tensorboard" / "t0001" / "events", "e")
    place.send("t0001")
    there = out / "trials" / "t0001"
    saved = yaml.safe_load((there / "config.yaml").read_text())
    assert saved["data_path"] == str(tmp_path / "data") and saved["epochs"] == 3
    assert saved["text_encoder"] == f"hf:{tmp_path}/model" and saved["output_dir"] == str(there)
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == ["tensorboard/t0001/events", *(f"trials/t0001/{name}" for name in (
        "checkpoint/state", "config.yaml", "population/epoch-000001.json", "population/epoch-000001/state", "trial.log"
    ))]  # fmt: skip

    before = (there / "checkpoint").stat().st_ino
    place.send("t0001")
    assert (there / "checkpoint").stat().st_ino == before  # what has not changed is not sent again
    write(folder / "trial.log", "longer log")
    place.leave("t0001")
    assert (there / "trial.log").read_text() == "longer log" and not folder.exists()
    assert (place.fetch("trials/t0001/population/epoch-000001") / "state").read_text() == "2"
    assert not place.fetch("trials/t0001/progress.json").exists()
    place.clear("t0001")
    assert not there.exists() and not folder.exists()


def test_a_depot_keeps_to_its_folder(tmp_path: Path, ray: Any) -> None:
    depot = Depot(str(tmp_path / "out"))
    for name in ("../data", "", "/etc/passwd"):
        with pytest.raises(AssertionError):
            depot.remove(name)
    with pytest.raises(OSError, match="other content"):
        depot.put("file", [Parcel("", "0", (b"x",))])
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_full_disk_of_the_search_is_said_in_the_trial(tmp_path: Path, ray: Any) -> None:
    from ray.exceptions import RayTaskError

    from recbole_lcrec.io import StorageError

    def put(*_: Any) -> None:
        raise RayTaskError("put", "traceback", StorageError("out: cannot be written: No space left"))

    write(tmp_path / "file")
    with pytest.raises(StorageError, match="No space left"):
        Delivery(SimpleNamespace(put=SimpleNamespace(remote=put)), tmp_path).send("file")


# ---- what a copy of pbt takes over ----------------------------------------------------------------------------------


def experiment(folder: Path, name: str, **changes: Any) -> Any:
    if not (folder / "data").exists():
        write_dataset(folder / "data")
    options = {"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2, "use_gpu": False, "epochs": 4,
               "show_progress": False, "learning_rate": 0.01, "train_batch_size": 32, "stopping_step": 99}  # fmt: skip
    places = {"data_path": str(folder / "data"), "output_dir": str(folder / "out" / "trials" / name)}
    return build("SASRec", "toy", {**options, **places, **changes})


def weights(one: Any) -> dict[str, Any]:
    return {name: weight.clone() for name, weight in one.model.state_dict().items()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(left[name].equal(right[name]) for name in left)


def reporter_of(folder: Path, name: str, one: Any, reports: list[Any]) -> Reporter:
    """Return the reporter of a trial, whose reports with their points are appended to a list."""
    session = SimpleNamespace(report=lambda result, checkpoint: reports.append((result, checkpoint)))
    shared = SharedPlace(inputs(folder, population_every=1))
    return Reporter(name, {"learning_rate": 1.0}, shared, session, one.trainer, 0.0)


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    context = SimpleNamespace(get_node_id=lambda: "abcdef0")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)


def test_a_copy_trains_on_as_its_donor_would_have(tmp_path: Path, no_runtime: None) -> None:
    """Weights, optimizer, place in the schedule and random state: with the donor's values the rest is the donor's."""
    donor, reports = experiment(tmp_path, "t0001"), []
    reporter, states = reporter_of(tmp_path, "t0001", donor, reports), {}

    def validated(epoch: int, score: float, metrics: dict[str, float]) -> None:
        reporter.validated(epoch + 1, metrics)
        states[epoch + 1] = weights(donor)

    donor.fit(validated)
    point = reports[1][1].to_dict()
    assert (point["trial"], point["epoch"]) == ("t0001", 2)
    folder = tmp_path / "out" / point["folder"]

    copy, copied = experiment(tmp_path, "t0002"), []
    go_on_from(folder, copy.trainer)
    assert same(weights(copy), states[2])
    later = reporter_of(tmp_path, "t0002", copy, copied)
    later.take_over(point)
    copy.fit(lambda epoch, score, metrics: later.validated(epoch + 1, metrics))
    assert [(r["epoch"], r["score"]) for r, _ in copied] == [(r["epoch"], r["score"]) for r, _ in reports[2:]]
    assert same(weights(copy), states[4])
    assert {r["copied"] for r, _ in copied} == {"t0001"} and copied[0][0]["seconds"] > point["seconds"]


def test_a_copy_keeps_its_own_values_and_takes_over_all_else(tmp_path: Path, no_runtime: None) -> None:
    donor, reports = experiment(tmp_path, "t0001", epochs=1), []
    reporter = reporter_of(tmp_path, "t0001", donor, reports)
    donor.fit(lambda epoch, score, metrics: reporter.validated(epoch + 1, metrics))
    expected = random_states(donor.train_data)
    folder = tmp_path / "out" / reports[0][1].to_dict()["folder"]
    copy = experiment(tmp_path, "t0002", learning_rate=0.5, weight_decay=0.1)
    go_on_from(folder, copy.trainer)
    (group,) = copy.trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.1)
    moments = [[one.trainer.optimizer.state[p]["exp_avg"] for p in one.model.parameters()] for one in (donor, copy)]
    assert all(left.equal(right) for left, right in zip(*moments, strict=True))
    copy.trainer.course.begin(1, copy.train_data)  # where the generators are set
    found = random_states(copy.train_data)
    assert repr(found) == repr(expected)


def test_the_states_that_pbt_can_no_longer_ask_for_go(tmp_path: Path, no_runtime: None) -> None:
    one, reports = experiment(tmp_path, "t0001", epochs=5), []
    reporter = reporter_of(tmp_path, "t0001", one, reports)
    one.fit(lambda epoch, score, metrics: reporter.validated(epoch + 1, metrics))
    folder = tmp_path / "out" / "trials" / "t0001"
    names = sorted(path.name for path in (folder / "population").iterdir())
    assert names == [f"epoch-00000{epoch}{end}" for epoch in (3, 4, 5) for end in ("", ".json")]
    point = latest_point(folder)
    assert point is not None and point["epoch"] == 5 and point["trial"] == "t0001"
    assert latest_point(tmp_path) is None
