"""The command line of ``--recommend``: all mistakes in it are reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import path_problem
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.saved_run import check_evaluation, read_options
from recbole_lcrec.recommending.order import ALL, FORMATS, Order, recommend_options
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CONFIG

_COMMANDS = ("evaluate", "resume", "tune", "resume_tune", "config_files")
OF_THE_RUN = ("model", "dataset", "seeds", "ablation", "jobs", "cpus_per_run", "gpus_per_run")
PROCESSES = ("nproc", "world_size", "ip", "port", "group_offset", "parallel")
"""Options that say what runs and in how many processes: they do not apply to a command on a finished run."""


def parse_recommendation(given: dict[str, Given], reading: Reading) -> Callable[[], Any]:
    """Return the recommending that a command line asks for, as a function that does it.

    Args:
        given: Arguments of the command line, ``recommend`` among them.
        reading: Collects the mistakes.

    Raises:
        UserError: One message for all mistakes.
    """
    folder = given.pop("recommend")
    for name in (*_COMMANDS, *OF_THE_RUN, *PROCESSES, "output_dir"):
        if name in given:
            del given[name]
            reading.add(f"the command line: --{name} does not go with --recommend, {_instead(name)}")
    options = reading.checked(given)
    own = {**recommend_options(), **{name: options.pop(name) for name in recommend_options() if name in options}}
    run_dir = _run_dir(folder.text or "", reading)
    _check_askers(own, reading)
    output = _output(own["output"], reading)
    for name in ("histories", "among"):
        _check_file(name, own[name], reading)
    topk, address = options.pop("topk", None), options.pop("address", None)

    def check_whole() -> None:
        from recbole_lcrec.experiment.building import saved_config

        if run_dir is not None:
            saved_config(run_dir, options, reading=reading)

    if run_dir is not None:
        with reading.caught():
            check_evaluation(options, read_options(run_dir / CONFIG))
    reading.finish(check_whole if run_dir is not None else None)
    assert output is not None and run_dir is not None
    order = Order(
        run_dir=run_dir.absolute(), output=output.absolute(), users=own["users"], histories=_path(own["histories"]),
        among=_path(own["among"]), titles=own["titles"], unknown=own["unknown"], k=_longest(topk), address=address,
        options=options,
    )  # fmt: skip

    def start() -> Any:
        from recbole_lcrec.recommending.job import carry_out

        return carry_out(order)

    return start


def refuse_recommending(options: Mapping[str, Any], reading: Reading) -> None:
    """Add the options of recommending to the mistakes: no other command uses them."""
    for name in recommend_options():
        if name in options:
            of = "--recommend and --export" if name == "output" else "--recommend=RUN_DIR"
            reading.add(f"the command line: --{name} is an option of {of} and has no effect without it")


def _instead(name: str) -> str:
    if name in PROCESSES:
        return "which is one process; for more machines, or for several cores or GPUs, give --address of a Ray cluster"
    return "which writes one file, --output" if name == "output_dir" else "which takes all that from the finished run"


def _run_dir(text: str, reading: Reading) -> Path | None:
    folder = Path(text)
    if (problem := path_problem(text)) is not None:
        reading.add(f"the command line: --recommend is {problem}")
    elif not (folder / CONFIG).is_file():
        reading.add(
            f"the command line: --recommend={text} is not the folder of a finished run: {folder / CONFIG} does not "
            "exist"
        )
    else:
        return folder
    return None


def _check_askers(own: Mapping[str, Any], reading: Reading) -> None:
    users, histories = own["users"], own["histories"]
    if (users is None) == (histories is None):
        found = "both are given" if users is not None else "neither is given"
        reading.add(
            f"the command line: {found}: --users=all (or a file of user tokens) for users of the data set, or "
            "--histories=FILE for others"
        )
    if users is not None and users != ALL:
        _check_file("users", users, reading)
    if histories is not None and Path(histories).suffix not in FORMATS:
        reading.add(f"option histories is {histories}; expected a file named {', '.join(FORMATS)}")


def _output(value: str | None, reading: Reading) -> Path | None:
    if value is None:
        reading.add(f"the command line: --output=FILE is missing; its name ends with {', '.join(FORMATS)}")
        return None
    path = Path(value)
    if path.suffix not in FORMATS:
        reading.add(f"option output is {value}; expected a file named {', '.join(FORMATS)}")
    elif path.exists():
        reading.add(f"option output is {value}, which exists already. Move it away, or choose another name")
    return path


def _check_file(name: str, value: str | None, reading: Reading) -> None:
    if value is not None and not Path(value).is_file():
        reading.add(f"option {name} is {value}: there is no such file")


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value).absolute()


def _longest(topk: Any) -> int | None:
    """Return the largest list length that option ``topk`` asks for; None for the run's own."""
    if isinstance(topk, list) and not topk:
        raise UserError("option topk is []; expected the length of the lists, such as 10.")
    return max(topk) if isinstance(topk, list) else topk
