"""Ray, started for one search or comparison and gone after it, or joined where it already runs.

Ray's files are in a temporary folder with a short name (its socket names are limited to 107 characters) that is
removed at the end; Ray listens on this machine only, without a dashboard, and logs nothing.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from recbole_lcrec.utils.cores import usable_cores
from recbole_lcrec.utils.errors import UserError, reason_of

_PREFIX = "lcrec-ray-"
_LONGEST = 40  # characters of the temporary folder; Ray appends session_<date>_<pid>/sockets/plasma_store
_MIB = 2**20

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Ray hands it on to the trials
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # containers with a small /dev/shm
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails reports no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the journal is ours
    "TUNE_WARN_THRESHOLD_S": "1000000",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}
"""Environment of Ray while a search runs."""


def available_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use, by its affinity and by the quota of its control group.

    Args:
        root: The parent of /sys.
    """
    cpus = usable_cores()
    quota = _quota(root / "sys" / "fs" / "cgroup")
    return max(1, min(cpus, math.ceil(quota) if quota else cpus))


def _quota(folder: Path) -> float | None:
    """Return a control group's CPU quota (versions 2 and 1), or None without one."""
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
            return None if limit == "max" else int(limit) / int(period)
        limit, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


def temporary_folder() -> Path:
    """Make a folder whose name is short enough for Ray's sockets."""
    parents = [tempfile.gettempdir(), "/tmp"]
    for parent in parents:
        if len(parent) + len(_PREFIX) + 9 <= _LONGEST and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    raise UserError(
        f"the search needs a writable temporary folder whose name has at most {_LONGEST - len(_PREFIX) - 9} "
        f"characters, for Ray's sockets; tried {' and '.join(dict.fromkeys(parents))}. Set TMPDIR."
    )


def remove_temporary(folder: str | None) -> None:
    """Remove the temporary folder that a killed search left behind, and no other folder."""
    if folder and Path(folder).name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end(processes: Iterable[psutil.Process]) -> None:
    """End the processes that Ray has not ended itself."""
    _, left = psutil.wait_procs(list(processes), timeout=10)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def import_ray() -> Any:
    """Return the module ``ray``, imported without the warnings about its own packages."""
    with environment(QUIET), warnings.catch_warnings(), _own_sigterm():
        warnings.simplefilter("ignore")
        import ray
        import ray.cloudpickle
        import ray.tune

        _silence()
        return ray


@contextmanager
def ray_session(
    address: str | None, temporary: Path, *, cpus: float = 1.0, shared_bytes: int = 0, dashboard: bool = False
) -> Iterator[Any]:
    """Start Ray or join a cluster; yield the module ``ray``.

    Args:
        address: Of a running cluster (``auto``, ``host:port``, ``ray://host:port``); None starts Ray here.
        temporary: Folder for Ray's own files.
        cpus: CPUs that one task asks for; Ray started here has at least as many.
        shared_bytes: What the tasks share in Ray's object store.
        dashboard: Whether Ray started here shows its dashboard.

    Raises:
        UserError: If the cluster cannot be joined, or packages for the dashboard are missing.
    """
    if dashboard and not all(importlib.util.find_spec(name) for name in ("aiohttp_cors", "opencensus")):
        raise UserError('option dashboard: Ray\'s dashboard is not installed. Install it: pip install "ray[default]".')
    with environment(QUIET), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = import_ray()
        before = _descendants()
        node: set[psutil.Process] = set()
        try:
            with _own_sigterm():
                if address:
                    _join(ray, address)
                else:
                    _start(ray, temporary, cpus, shared_bytes, dashboard)
                    node = _descendants() - before
            _silence()
            yield ray
        finally:
            if not address:
                node |= _descendants() - before
            ray.shutdown()
            _end(node)  # Ray's agents outlive a node that was killed, and would write until they notice


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Restore the SIGTERM handler, which Ray replaces by one that ends at once, when imported and when started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _silence() -> None:
    for name in ("ray", "ray.tune", "ray.train", "ray.air", "ray.data", "hyperopt"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the search itself reports failures


def _start(ray: Any, temporary: Path, cpus: float, shared_bytes: int, dashboard: bool) -> None:
    ray.init(
        address="local",
        num_cpus=max(available_cpus(), math.ceil(cpus)),
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        object_store_memory=128 * _MIB + 2 * shared_bytes,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(temporary),
    )


def _join(ray: Any, address: str) -> None:
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"option address is {address}: no Ray cluster answers there ({reason_of(error)}). Start one with ray "
            "start --head on one machine and ray start --address=HEAD:6379 on the others, with the same versions of "
            "Python and Ray."
        ) from error


def check_resources(ray: Any, cpus: float, gpus: float | None, use_gpu: bool, per: str) -> float:
    """Return the GPUs of a trial or run: the number asked for, or one if there are any.

    Args:
        ray: The module, connected.
        cpus: CPUs per trial or run.
        gpus: GPUs, or the fraction of one; None for one if a machine has any.
        use_gpu: Option ``use_gpu``.
        per: "trial" or "run", as in the options' names.

    Raises:
        UserError: If it asks for more CPUs or GPUs than any machine has.
    """
    most = max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if gpus is None:
        gpus = 1.0 if most and use_gpu else 0.0
    if gpus > most:
        raise UserError(
            f"option gpus_per_{per} is {gpus:g}, but Ray sees {most:g} GPU(s) on a machine. Set gpus_per_{per}=0 to "
            "use CPUs."
        )
    most_cpus = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if cpus > most_cpus:
        raise UserError(f"option cpus_per_{per} is {cpus:g}, but no machine has more than {most_cpus:g}.")
    return gpus
