"""A search on a Ray cluster: two nodes on this machine, one of which is lost while a trial runs on it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import cluster_of_one
from searching import arguments, events, prepare

from recbole_lcrec import cli
from recbole_lcrec.errors import UserError
from recbole_lcrec.tuning.machines import _missing, has_to_ship, node_that_sees, unseen
from recbole_lcrec.tuning.settings import read_settings

pytest.importorskip("ray")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with cluster_of_one(monkeypatch) as made:
        yield made


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
    given = arguments(tmp_path, space, search_alg="grid", epochs=200, stopping_step=200, eval_step=20)
    assert cli.main([*given, f"--address={cluster.address}"]) == 0
    assert lost
    crashed = [event["trial"] for event in events(out) if event["event"] == "crashed"]
    last = {event["trial"]: event["status"] for event in events(out) if event["event"] == "ended"}
    assert crashed == lost and last == {"t0001": "finished", "t0002": "finished"}
    assert json.loads((out / "result.json").read_text())["test_result"]


def test_folders_that_a_node_does_not_see_are_named(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    file = tmp_path / "toy.inter"
    file.write_text("x")
    monkeypatch.chdir(tmp_path)
    own = {"data_path": [Path("/proc/self/cwd/toy.inter")]}  # another folder for every process
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert unseen(ray, {"output_dir": tmp_path}, {"data_path": [file]}) == []
        (line,) = unseen(ray, {"output_dir": tmp_path}, own)
        assert line.endswith(": data_path=/proc/self/cwd")
        assert has_to_ship(ray, read_settings({"address": "x"}), {}, own)
        assert not has_to_ship(ray, read_settings({}), {}, own)
        assert node_that_sees(ray, tmp_path) == ray.get_runtime_context().get_node_id()
        with pytest.raises(UserError, match="no machine of the cluster sees output_dir=/proc/self/cwd"):
            node_that_sees(ray, Path("/proc/self/cwd"))
        with pytest.raises(UserError, match=r"data_path=/proc/self/cwd(?s:.)*storage that all machines share"):
            has_to_ship(ray, read_settings({"address": "x", "ship_data": False}), {}, own)
    finally:
        ray.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.inter"]


def test_a_file_of_the_same_name_is_not_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert _missing({"data_path": {str(tmp_path / "file"): 1}}) == []
    assert _missing({"data_path": {str(tmp_path / "file"): 2}}) == ["data_path"]
