"""The command line of a server: all mistakes in it are reported at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import path_problem
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.options import COMMANDS
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.saved_run import check_evaluation, read_options
from recbole_lcrec.recommending.order import recommend_options
from recbole_lcrec.recommending.recommend_command import OF_THE_RUN, PROCESSES
from recbole_lcrec.serving.settings import read_settings, serve_options
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
MOST_RUNS = 2


def parse_serve(given: dict[str, Given], reading: Reading) -> Callable[[], None]:
    """Return the server that a command line asks for, as a function that runs it until it is asked to stop.

    Args:
        given: Arguments of the command line, ``serve`` among them.
        reading: Collects the mistakes.

    Raises:
        UserError: One message for all mistakes.
    """
    text = given.pop("serve").text or ""
    for name in (*COMMANDS, *OF_THE_RUN, *PROCESSES, "address", "output_dir", *recommend_options()):
        if name in given:
            del given[name]
            reading.add(f"the command line: --{name} cannot go with --serve")
    options = reading.checked(given)
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        reading.add(
            f"--serve needs packages that are not installed: {', '.join(missing)}. Install them: "
            'pip install "recbole-lcrec[serve]"'
        )
    folders = _folders(text, reading)
    changes = {name: value for name, value in options.items() if name not in serve_options()}
    _check_runs(folders, changes, reading)

    def check_whole() -> None:
        from recbole_lcrec.experiment.building import saved_config

        for folder in folders:
            saved_config(folder, changes, reading=reading)

    reading.finish(check_whole if folders else None)
    settings = read_settings(options)

    def start() -> None:
        from recbole_lcrec.serving.server import serve

        serve(folders, settings, changes)

    return start


def refuse_serving(options: Mapping[str, Any], reading: Reading) -> None:
    """Add the options of a server to the mistakes: no other command uses them."""
    for name in serve_options():
        if name in options:
            reading.add(f"the command line: --{name} is an option of --serve=RUN_DIR and has no effect without it")


def _folders(text: str, reading: Reading) -> tuple[Path, ...]:
    """Return the folders of ``--serve``: one, or two separated by a comma; none if one is not a run's."""
    names = [text] if path_problem(text) is None and Path(text).is_dir() else text.split(",")
    if len(names) > MOST_RUNS:
        reading.add(f"the command line: --serve={text} names {len(names)} runs; at most {MOST_RUNS} are served")
        return ()
    runs = True
    for name in names:
        lacks = [
            file for file in (CONFIG, CHECKPOINT) if not name or path_problem(name) or not Path(name, file).exists()
        ]
        if lacks:
            runs = False
            reading.add(
                f"the command line: --serve={text}: {name or 'an empty name'} is not the folder of a finished run: "
                f"it has no {lacks[0]}. Expected --serve=RUN_DIR or --serve=RUN_DIR,RUN_DIR"
            )
    if len({str(Path(name).resolve()) for name in names}) < len(names):
        reading.add(f"the command line: --serve={text} names the same run twice")
    return tuple(Path(name) for name in names) if runs else ()


def _check_runs(folders: tuple[Path, ...], changes: Mapping[str, Any], reading: Reading) -> None:
    """Note options with which no run can be served, and runs of different data sets."""
    datasets = {}
    for folder in folders:
        with reading.caught():
            before = read_options(folder / CONFIG)
            datasets[folder] = str(before["dataset"])
            check_evaluation(changes, before)
    if len(set(datasets.values())) > 1:
        trained = ", ".join(f"{folder} was trained on {dataset}" for folder, dataset in datasets.items())
        reading.add(
            f"--serve: {trained}. Runs are shown side by side for the same histories: serve two of the same data set."
        )
