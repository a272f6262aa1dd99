"""Ray clusters for tests: nodes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def cluster_of(*cpus: int) -> Iterator[Any]:
    """Yield a cluster with a node per number of CPUs, the head first."""
    from ray.cluster_utils import Cluster

    from recbole_lcrec.distributed.cluster import QUIET, remove_temporary, temporary_folder

    folder = temporary_folder()
    with pytest.MonkeyPatch.context() as patch:
        # it would be written to Ray's own place in /tmp
        patch.setattr("ray._private.utils.write_ray_address", lambda *_: None)
        patch.setenv("PYTHONPATH", str(ROOT))
        for name, value in QUIET.items():
            patch.setenv(name, value)
        head = {"num_cpus": cpus[0], "include_dashboard": False, "temp_dir": str(folder)}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            for more in cpus[1:]:
                made.add_node(num_cpus=more)
            yield made
        finally:
            made.shutdown()
            remove_temporary(str(folder))
