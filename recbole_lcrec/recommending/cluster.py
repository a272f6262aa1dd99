"""Recommending on a Ray cluster: Ray Data with an actor per GPU, or per core where there are none.

A row of the data set is a part of the order, and a row of the result is that part of the output, encoded. Ray keeps
waiting parts in its object store, which spills to disk, so that memory does not grow with the number of users.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recbole_lcrec.config.names import dataset_folder
from recbole_lcrec.config.paths import bundled_ml_100k
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed.cluster import check_resources, ray_session
from recbole_lcrec.distributed.machines import cause_of, check_seen, machines_for, room_for
from recbole_lcrec.recommending.answering import Answering
from recbole_lcrec.recommending.askers import Portion
from recbole_lcrec.recommending.order import Order
from recbole_lcrec.recommending.recommender import Recommender
from recbole_lcrec.utils.errors import UserError


class Actor:
    """A process of the cluster with the run loaded.

    Args:
        run_dir: Folder of the run.
        options: Options of the run to change.
        answering: How parts are answered.
    """

    def __init__(self, run_dir: Path, options: dict[str, Any], answering: Answering) -> None:
        self._recommender = Recommender.load(run_dir, **{**options, "show_progress": False})
        self._answering = answering

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer one part."""
        (number,), (names,), (histories,) = batch["number"], batch["names"], batch["histories"]
        plain = None if histories is None else [list(map(str, history)) for history in histories]
        data = self._answering.answer(self._recommender, Portion(int(number), list(map(str, names)), plain))
        return {"number": [int(number)], "data": [data]}


def answers_of_cluster(
    order: Order, answering: Answering, parts: Iterable[Portion], count: int, experiment: Any
) -> Iterator[tuple[int, bytes]]:
    """Yield (number, part of the output) of all parts, in any order.

    Args:
        order: What is ordered.
        answering: How parts are answered.
        parts: The parts to answer.
        count: How many parts these are.
        experiment: The run, loaded here.

    Raises:
        UserError: If the cluster cannot be joined, or a machine does not see the run or its data.
    """
    with ray_session(order.address, Path()) as ray:
        import ray.data

        gpus = check_resources(ray, 1.0, None, RunOptions(experiment.config).use_gpu, "run")
        machines = machines_for(ray, 1.0, gpus)
        check_seen(ray, machines, {}, _files(order, experiment))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        refs = [ray.put(_table(part)) for part in parts]
        size = min(room_for(machines, 1.0, gpus), count)
        if not refs:
            return
        options = {**order.options, "use_gpu": bool(gpus)}
        answers = ray.data.from_arrow_refs(refs).map_batches(
            Actor, fn_constructor_args=(order.run_dir, options, answering), batch_size=1, batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=size), num_cpus=1, num_gpus=gpus or None,
        )  # fmt: skip
        try:
            for row in answers.iter_rows():
                yield int(row["number"]), bytes(row["data"])
        except ray.exceptions.RayError as error:
            raise _in_words(error) from error


def _files(order: Order, experiment: Any) -> dict[str, list[Path]]:
    """Return the files that every machine has to see, by their name in messages."""
    run = RunOptions(experiment.config)
    name, data_path = run.dataset, str(Path(run.data_path).absolute().parent)
    needed = {f"--recommend={order.run_dir}": [path for path in sorted(order.run_dir.rglob("*")) if path.is_file()]}
    data = dataset_folder(name, data_path)
    if data != bundled_ml_100k():  # every installation has that one
        needed[f"data_path={data_path}"] = sorted(data.glob(f"{name}.*"))
    return needed


def _table(part: Portion) -> Any:
    """Return a part as a table of one row."""
    import pyarrow

    lists = pyarrow.list_(pyarrow.list_(pyarrow.string()))
    columns = {
        "number": pyarrow.array([part.number], pyarrow.int64()),
        "names": pyarrow.array([part.names], pyarrow.list_(pyarrow.string())),
        "histories": pyarrow.array([part.histories], lists),
    }
    return pyarrow.table(columns)


def _in_words(error: Exception) -> UserError:
    """Return the UserError that an actor has raised, or one that says that the actor was lost."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = inner if (inner := cause_of(cause)) is not cause else cause.__cause__
    said = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return UserError(
        f"an actor of the cluster was lost ({said[:300]}). What is written is kept: give the command again."
    )
