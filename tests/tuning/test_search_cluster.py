"""A search on a Ray cluster: two nodes on this machine, one of which is lost while a trial runs on it."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from searching import arguments, events, prepare

from recbole_lcrec import cli

pytest.importorskip("ray")


def parent(pid: int) -> int:
    return psutil.Process(pid).ppid()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    from ray.cluster_utils import Cluster

    from recbole_lcrec.tuning.cluster import QUIET, remove_temporary, temporary_folder

    # it would be written to Ray's own place in /tmp
    monkeypatch.setattr("ray._private.utils.write_ray_address", lambda *_: None)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    folder = temporary_folder()
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "temp_dir": str(folder)}
    )
    yield made
    made.shutdown()
    remove_temporary(str(folder))


def test_trials_run_on_every_node_and_outlive_one(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path)
    second = cluster.add_node(num_cpus=1)
    out = tmp_path / "out"
    lost: list[str] = []

    def lose_a_node() -> None:
        raylet = second.all_processes["raylet"][0].process.pid
        while not lost:
            time.sleep(0.1)
            reports = [event for event in events(out) if event["event"] == "reported"]
            here = [r["trial"] for r in reports if psutil.pid_exists(r["pid"]) and raylet == parent(r["pid"])]
            if here and len({report["node"] for report in reports}) == 2:
                cluster.remove_node(second)
                lost.append(here[0])

    losing = threading.Thread(target=lose_a_node, daemon=True)
    losing.start()
    space = "learning_rate: {choice: [0.003, 0.001]}\n"
    given = arguments(tmp_path, space, search_alg="grid", epochs=400, stopping_step=400, eval_step=20)
    assert cli.main([*given, f"--address={cluster.address}"]) == 0
    assert lost
    crashed = [event["trial"] for event in events(out) if event["event"] == "crashed"]
    last = {event["trial"]: event["status"] for event in events(out) if event["event"] == "ended"}
    assert crashed == lost and last == {"t0001": "finished", "t0002": "finished"}
    assert json.loads((out / "result.json").read_text())["test_result"]


def test_folders_that_a_node_does_not_see_are_named(tmp_path: Path, cluster: Any) -> None:
    import ray

    from recbole_lcrec.errors import UserError
    from recbole_lcrec.tuning.cluster import check_nodes

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        check_nodes(ray, {"data_path": tmp_path})
        with pytest.raises(UserError, match=r"data_path=.*nowhere(?s:.)*storage that all machines share"):
            check_nodes(ray, {"output_dir": tmp_path, "data_path": tmp_path / "nowhere"})
    finally:
        ray.shutdown()
