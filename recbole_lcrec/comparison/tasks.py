"""Stages of runs as tasks of a Ray cluster, on folders that all machines see.

A task starts the process that a comparison on one machine would start (:func:`workers.carry_out`), waits for it, and
ends it when it is cancelled; if Ray's worker dies, Linux ends the process. So Ray's workers themselves need neither
torch nor much memory. The options in a stage's folder name files by absolute paths: the folder in which the workers
were started does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.specs import Cluster
from recbole_lcrec.comparison.workers import End, carry_out
from recbole_lcrec.config.named_files import named_file
from recbole_lcrec.config.names import dataset_folder
from recbole_lcrec.config.paths import bundled_ml_100k
from recbole_lcrec.distributed.cluster import check_resources, ray_session
from recbole_lcrec.distributed.machines import cause_of, check_seen, machines_for, room_for
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import RESULT

_MORE_SECONDS = 5.0
"""What a task is given, beyond its process, to learn of its cancellation and to end."""
_UNSEEN_SECONDS = 60.0
"""How long a result that another machine has written may stay unseen here: network file systems cache for a while that
a file is missing."""


@contextmanager
def cluster_tasks(cluster: Cluster, plan: Plan) -> Iterator[Tasks]:
    """Join a cluster for the runs of a plan.

    Raises:
        UserError: If the cluster cannot be joined, no machine is large enough, or one does not see a folder; before
            anything is started or written.
    """
    stages = [stage for run in plan.runs for stage in run.stages]
    with ray_session(cluster.address, Path(), cpus=cluster.cpus) as ray:
        use_gpu = any(stage.resolved["use_gpu"] for stage in stages)
        gpus = check_resources(ray, cluster.cpus, cluster.gpus, use_gpu, "run")
        machines = machines_for(ray, cluster.cpus, gpus)
        if not machines:
            raise UserError(
                f"no machine of the cluster has both cpus_per_run={cluster.cpus:g} CPU(s) and {gpus:g} GPU(s) for a "
                "run. Lower cpus_per_run, or set gpus_per_run=0."
            )
        check_seen(ray, machines, *_needs(plan))
        room = room_for(machines, cluster.cpus, gpus)
        about = (
            f"as tasks of {cluster.cpus:g} CPU(s) and {gpus:g} GPU(s) on a Ray cluster, whose {len(machines)} "
            f"machine(s) have room for {room} at once"
        )
        yield Tasks(ray, cluster.cpus, gpus, plan.jobs, about)


def _needs(plan: Plan) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Return the folders that runs write to and the files that they read, by their names in messages."""
    resolved = plan.runs[0].stages[0].resolved  # an entry has no folders of its own
    written = {"output_dir": plan.output_dir, "cache_dir": Path(resolved["cache_dir"]).absolute()}
    data = dataset_folder(plan.dataset, resolved["data_path"])
    read: dict[str, list[Path]] = {}
    if data.is_dir() and data != bundled_ml_100k():  # each installation has that one
        read[f"data_path={resolved['data_path']}"] = sorted(data.glob(f"{plan.dataset}.*"))
    elif not data.is_dir():  # the first run downloads it
        written["data_path"] = Path(resolved["data_path"])
    for stage in [stage for run in plan.runs for stage in run.stages]:
        for path in filter(None, (named_file(name, value) for name, value in stage.options.items())):
            read[str(path)] = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {f"{name}={path}": path for name, path in written.items()}, read


class Tasks:
    """Carries out stages as tasks of Ray.

    Args:
        ray: The module, connected.
        cpus: CPUs of a task.
        gpus: GPUs of a task, or the fraction of one.
        at_once: Most tasks at once; None for as many as the cluster has room for.
        about: Who carries out the runs, for the log.
    """

    def __init__(self, ray: Any, cpus: float, gpus: float, at_once: int | None, about: str) -> None:
        self.at_once = at_once
        self.threads = max(int(cpus), 1)
        self._ray, self._about = ray, about
        self._variables = {"OMP_NUM_THREADS": str(self.threads)}
        if not gpus:
            self._variables["CUDA_VISIBLE_DEVICES"] = ""
        self._task = ray.remote(carry_out).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, num_returns="streaming", scheduling_strategy="SPREAD"
        )

    def start(self, command: Sequence[str], folder: Path) -> RayStage:
        """See :class:`workers.Workers`."""
        return RayStage(self._ray, self._task.remote(tuple(command), folder, self._variables), folder / RESULT)

    def describe(self) -> str:
        """See :class:`workers.Workers`."""
        return self._about if self.at_once is None else f"at most {self.at_once} at once, {self._about}"


class RayStage:
    """A stage in a task of Ray.

    Args:
        ray: The module, connected.
        answers: What the task yields: its machine, then the exit status.
        result: The file that a successful stage leaves behind.
    """

    def __init__(self, ray: Any, answers: Any, result: Path) -> None:
        self._ray, self._answers, self._result = ray, answers, result
        self._end: End | None = None
        self._ended_at = 0.0
        self.where: str | None = None

    def poll(self) -> End | None:
        """See :class:`workers.Started`."""
        while self._end is None and self._ray.wait([self._answers], timeout=0)[0]:
            self._take()
        if self._end is not None and self._end.status == 0 and not self._result.is_file():
            return self._end if time.monotonic() > self._ended_at + _UNSEEN_SECONDS else None
        return self._end

    def _take(self) -> None:
        """Take the task's next answer."""
        try:
            answer = self._ray.get(next(self._answers))
        except self._ray.exceptions.RayError as error:
            self._end = End(None, self._in_words(error))
        else:
            if isinstance(answer, str):
                self.where = answer
            else:
                self._end, self._ended_at = End(answer), time.monotonic()

    def _in_words(self, error: Exception) -> str:
        """Return in one line why a task was lost."""
        known = self._ray.exceptions
        if isinstance(error, known.NodeDiedError):
            return "its machine was lost, or Ray ended there"
        if isinstance(error, known.OutOfMemoryError):
            return "ended by Ray, as memory ran out on its machine"
        if isinstance(error, known.WorkerCrashedError):
            return "Ray's worker was killed, perhaps because memory ran out or its machine was lost"
        cause = cause_of(error)
        return f"{type(cause).__name__}: {(str(cause).strip() or 'no message').splitlines()[-1][:300]}"

    def ask_to_end(self) -> None:
        """See :class:`workers.Started`."""
        if self._end is None:
            self._ray.cancel(self._answers)

    def end_by(self, deadline: float) -> None:
        """See :class:`workers.Started`."""
        if self._end is None:
            left = max(deadline + _MORE_SECONDS - time.monotonic(), 0.0)
            if not self._ray.wait([self._answers.completed()], timeout=left)[0]:
                self._ray.cancel(self._answers, force=True)
