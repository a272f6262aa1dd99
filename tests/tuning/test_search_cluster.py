"""A search on a Ray cluster: two nodes on this machine, one of which is lost while a trial runs on it."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from clusters import cluster_of_one, node_that_does_not_see
from fakes import TINY, save_checkpoint
from searching import arguments, curves, events, prepare

from recbole_lcrec.cli import main as cli
from recbole_lcrec.experiment import evaluate

pytest.importorskip("ray")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with cluster_of_one(monkeypatch) as made:
        yield made


@pytest.mark.slow
def test_trials_run_on_every_node_and_outlive_one(tmp_path: Path, cluster: Any) -> None:
    import ray

    prepare(tmp_path)
    cluster.add_node(num_cpus=1)
    out = tmp_path / "out"
    lost: list[str] = []

    def lose_a_node() -> None:
        """Kill the raylet of the node that the search itself is not connected to, once trials ran on both."""
        while not lost:
            time.sleep(0.1)
            last = {event["node"]: event for event in events(out) if event["event"] == "reported"}
            if len(last) == 2:
                own = ray.get_runtime_context().get_node_id()[:6]
                (other,) = (event for node, event in last.items() if not node.endswith(own))
                os.kill(psutil.Process(other["pid"]).ppid(), signal.SIGKILL)
                lost.append(other["trial"])

    losing = threading.Thread(target=lose_a_node, daemon=True)
    losing.start()
    space = "learning_rate: {choice: [0.003, 0.001]}\n"
    given = arguments(tmp_path, space, search_alg="grid", epochs=800, stopping_step=800, eval_step=20)
    assert cli.main([*given, f"--address={cluster.address}"]) == 0
    assert lost
    crashed = [event["trial"] for event in events(out) if event["event"] == "crashed"]
    last = {event["trial"]: event["status"] for event in events(out) if event["event"] == "ended"}
    assert crashed == lost and last == {"t0001": "finished", "t0002": "finished"}
    assert json.loads((out / "result.json").read_text())["test_result"]


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a cluster whose second node does not see ``tmp_path / "head"``, and that node's own folder."""
    (tmp_path / "head").mkdir()
    with cluster_of_one(monkeypatch) as made:
        with node_that_does_not_see(tmp_path / "head", tmp_path / "node.log", made) as far:
            yield made.address, far


def nodes_of(out: Path) -> dict[str, set[str]]:
    """Return the trials that every node reported of."""
    found: dict[str, set[str]] = {}
    for event in events(out):
        if event["event"] == "reported":
            found.setdefault(event["node"], set()).add(event["trial"])
    return found


def lcrec(folder: Path, **changes: Any) -> list[str]:
    options = folder.parent / "tiny.yaml"
    options.write_text(yaml.safe_dump({**TINY, "show_progress": False}))
    space = "learning_rate: {choice: [0.001, 0.003]}\n"
    given = arguments(folder, space, search_alg="grid", epochs=2, **changes)
    own = ("--model=", "--hidden_size", "--inner_size", "--n_layers")
    return [*(a for a in given if not a.startswith(own)), "--model=LCRec", f"--config_files={options}"]


@pytest.mark.slow
def test_data_and_index_travel_and_results_are_stored(
    tmp_path: Path, apart: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """One node sees neither data set, cache nor output folder: refused, unless results go where both can write."""
    (address, far), head = apart, prepare(tmp_path / "head")
    out, store = head / "out", tmp_path / "store"

    def refused(*more: str) -> str:
        assert cli.main([*lcrec(head), f"--address={address}", *more]) == 2
        assert not (out / "trials").exists()
        shutil.rmtree(out)
        return capsys.readouterr().err

    said = refused()
    assert "machines of the cluster cannot reach what trials need:\n" in said
    assert f": output_dir: {out} (another folder of that name, or none)" in said and "Give a storage_path" in said
    assert f": storage_path: {head}/store/out-" in refused(f"--storage_path={head}/store")
    base_model = save_checkpoint(head / "lm", "llama")
    said = refused(f"--storage_path={store}", f"--base_model={base_model}")
    assert f": base_model: {base_model}/" in said and "storage_path" not in said

    assert cli.main([*lcrec(head), f"--address={address}", f"--storage_path=file://{store}"]) == 0
    assert sorted(map(len, nodes_of(out).values())) == [1, 1]
    logs = [path.read_text() for path in (out / "trials").glob("*/trial.log")]
    assert len(logs) == 2 and not any("RQ-VAE:" in text for text in logs)  # nobody built the index again
    assert not list(far.glob("lcrec-trial-*")) and not [path for path in out.rglob(".*") if path.name != ".lock"]
    best = json.loads((out / "result.json").read_text())
    trial = out / "trials" / best["trial"]
    saved = yaml.safe_load((trial / "config.yaml").read_text())
    assert (saved["data_path"], saved["output_dir"]) == (str(head), str(trial))
    assert evaluate(trial)["test_result"] == best["test_result"]
    for place in (out, store):
        assert {path.parent.name for path in place.rglob("trials/*/checkpoint")} == {best["trial"]}
    assert {path.name for path in (out / "tensorboard").iterdir()} == {"t0001", "t0002"}

    assert cli.main(lcrec(head, output_dir=head / "alone", max_concurrent=1)) == 0
    assert curves(head / "alone") == curves(out)
    assert json.loads((head / "alone" / "result.json").read_text())["test_result"] == best["test_result"]
    assert (head / "alone" / "ranks.csv.gz").read_bytes() == (out / "ranks.csv.gz").read_bytes()


@pytest.mark.slow
def test_a_population_is_copied_between_machines(tmp_path: Path, apart: tuple[str, Path]) -> None:
    (address, _), head = apart, prepare(tmp_path / "head")
    space = "learning_rate: {choice: [0.0001, 0.01]}\n"
    given = {"scheduler": "pbt", "search_alg": "grid", "epochs": 4}
    stored = [f"--address={address}", f"--storage_path={tmp_path / 'store'}"]
    assert cli.main([*arguments(head, space, **given), *stored]) == 0
    assert len(nodes_of(head / "out")) == 2
    assert cli.main(arguments(head, space, **given, output_dir=head / "alone")) == 0
    assert any(event.get("copied") for event in events(head / "out"))
    assert curves(head / "out") == curves(head / "alone")
    results = [json.loads((head / name / "result.json").read_text()) for name in ("out", "alone")]
    assert results[0]["test_result"] == results[1]["test_result"]
    assert not list((tmp_path / "store").rglob("session-*"))
