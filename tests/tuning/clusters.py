"""Ray clusters for tests: nodes of this machine, one of which may live where the search's folders cannot be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from searching import ROOT, wait_for


@contextmanager
def cluster_of_one(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a cluster with a head of one CPU."""
    from ray.cluster_utils import Cluster

    from recbole_lcrec.distributed.cluster import QUIET, remove_temporary, temporary_folder

    # it would be written to Ray's own place in /tmp
    patch.setattr("ray._private.utils.write_ray_address", lambda *_: None)
    patch.setenv("PYTHONPATH", str(ROOT))
    for name, value in QUIET.items():
        patch.setenv(name, value)
    folder = temporary_folder()
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "temp_dir": str(folder)}
    )
    yield made
    made.shutdown()
    remove_temporary(str(folder))


def namespace() -> list[str]:
    """Return the command that gives a process mounts of its own; skip where that is not permitted."""
    for options in (["-m"], ["-rm"]):
        command = ["unshare", *options, "--propagation", "private"]
        test = "mount -t tmpfs -o ro none /mnt"
        try:
            if subprocess.run([*command, "sh", "-c", test], capture_output=True, timeout=20).returncode == 0:
                return command
        except (OSError, subprocess.TimeoutExpired):
            break
    pytest.skip("this user may not make mount namespaces")


@contextmanager
def node_that_does_not_see(hidden: Path, log_file: Path, cluster: Any) -> Iterator[Path]:
    """Start a node by ``ray start`` for which a folder is an empty one that cannot be written to.

    Args:
        hidden: The folder.
        log_file: Gets what the node says.
        cluster: Gets the node.

    Yields:
        The node's temporary folder.
    """
    from recbole_lcrec.distributed.cluster import remove_temporary, temporary_folder

    own = temporary_folder()
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={cluster.address}", "--num-cpus=1",
             "--block", "--disable-usage-stats"]  # fmt: skip
    script = f'mount -t tmpfs -o ro none "{hidden}" && exec "$@"'
    environment = {**os.environ, "TMPDIR": str(own), "RAY_TMPDIR": str(own)}
    with log_file.open("w") as log:
        node = subprocess.Popen(
            [*namespace(), "sh", "-c", script, "sh", *start], env=environment, stdout=log, stderr=log, cwd=own
        )
    try:
        wait_for(lambda: _nodes(cluster) == 2 or node.poll() is not None)
        assert node.poll() is None, log_file.read_text()
        yield own
    finally:
        node.terminate()
        node.wait(30)
        remove_temporary(str(own))


def _nodes(cluster: Any) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())
