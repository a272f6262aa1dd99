"""The command line: read ``--name=value`` arguments, answer mistakes within a second, start the experiment.

Everything that can be checked without torch is checked before torch is imported.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import Given, load_values
from recbole_lcrec.config.names import check_dataset, check_model
from recbole_lcrec.config.options import Reading, read_arguments, read_files
from recbole_lcrec.config.overview import USAGE, help_text
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.errors import UserError


@dataclass(frozen=True)
class Command:
    """What a command line asks for, checked as far as that is possible without torch.

    Attributes:
        model: Name of the model; empty when a saved run is evaluated.
        dataset: Name of the data set; likewise.
        config_files: YAML files, lowest first.
        options: Checked values of the other arguments.
        evaluate: Folder of a saved run to evaluate, or None to train.
        search: A search for hyper-parameters, new or resumed, or None.
    """

    model: str = ""
    dataset: str = ""
    config_files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Path | None = None
    search: Callable[[], Any] | None = None


def parse(argv: Sequence[str]) -> Command:
    """Read and check a command line.

    Raises:
        UserError: One message for everything that is wrong with it.
    """
    reading = Reading()
    given = read_arguments(argv, reading)
    files = given.pop("config_files", None)
    config_files = _split_files(files, reading)
    if "tune" in given or "resume_tune" in given:
        from recbole_lcrec.tuning.command import parse_search

        return Command(search=parse_search(given, config_files, reading))
    run_dir = given.pop("evaluate", None)
    options = reading.checked(given)
    if run_dir is not None:
        for name in ("model", "dataset", "config_files"):
            if name in options or (name == "config_files" and files is not None):
                reading.add(f"the command line: --{name} cannot go with --evaluate, which takes it from the saved run")
        folder = _run_dir(run_dir, reading)
        reading.finish()
        return Command(options=options, evaluate=folder)
    merged = {**load_values(properties_dir() / "overall.yaml"), **read_files(config_files, reading), **options}
    check_names(merged, reading)
    _check_no_search(options, reading)
    reading.finish()
    rest = {name: value for name, value in options.items() if name not in ("model", "dataset")}
    return Command(merged["model"], merged["dataset"], config_files, rest)


def _split_files(given: Given | None, reading: Reading) -> tuple[str, ...]:
    """Return the paths in ``--config_files="a.yaml b.yaml"``; quotes keep a path with blanks together."""
    if given is None or not given.text:
        return ()
    try:
        return tuple(shlex.split(given.text))
    except ValueError as error:
        reading.add(f"the command line: option config_files is {given.text}: {error}")
        return ()


def _run_dir(given: Given, reading: Reading) -> Path:
    folder = Path(given.text or "")
    if not (folder / "config.yaml").is_file():
        reading.add(
            f"the command line: --evaluate={given.text} is not the folder of a finished run: "
            f"{folder / 'config.yaml'} does not exist"
        )
    return folder


def _check_no_search(options: Mapping[str, Any], reading: Reading) -> None:
    from recbole_lcrec.tuning.settings import tune_options

    for name in options:
        if name in tune_options():
            reading.add(f"the command line: --{name} is an option of a search and has no effect without --tune")


def check_names(options: Mapping[str, Any], reading: Reading) -> None:
    """Add what is wrong with the model and the data set of ``options`` to ``reading``."""
    missing = [name for name in ("model", "dataset") if not options.get(name)]
    if missing and not reading.failed:  # an unreadable argument or file may be the one that names them
        reading.add(f"{' and '.join(f'--{name}=NAME' for name in missing)} missing.\n{USAGE}\n--help tells more.")
    checks: dict[str, Callable[[str], None]] = {
        "model": check_model,
        "dataset": lambda name: check_dataset(name, options),
    }
    for name, check in checks.items():
        if name not in missing:
            try:
                check(options[name])
            except UserError as error:
                reading.add(str(error))


def start(command: Command) -> None:
    """Carry out a command; this is where torch and RecBole are imported."""
    if command.search is not None:
        command.search()
        return
    from recbole_lcrec import experiment

    if command.evaluate is not None:
        experiment.evaluate(command.evaluate, cli=dict(command.options))
        return
    experiment.run(
        model=command.model,
        dataset=command.dataset,
        config_files=list(command.config_files),
        cli=dict(command.options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0, 1 when training diverged, 2 after a mistake the user can fix, 130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(help_text())
        return 0
    # Waiting threads must not spin: on a machine that others use too, spinning makes everything ten times slower.
    # Read by OpenMP when torch is imported, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        start(parse(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:  # training diverged: nothing to trace, and nothing wrong with the input
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
