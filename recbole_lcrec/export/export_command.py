"""The command line of an export: all mistakes in it are reported at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import path_problem
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.export.checks import check_exportable, check_new
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG

_OWN = ("output", "export_lora")
_OTHERS = ("evaluate", "resume", "tune", "resume_tune", "config_files", "model", "dataset", "output_dir")


def parse_export(given: dict[str, Given], reading: Reading) -> Callable[[], Any]:
    """Return the export that a command line asks for, as a function that does it.

    Args:
        given: Arguments of the command line, ``export`` among them.
        reading: Collects the mistakes.

    Raises:
        UserError: One message for all mistakes.
    """
    run_dir = given.pop("export").text or ""
    output, lora = (given.pop(name).text if name in given else None for name in _OWN)
    for name in [name for name in _OTHERS if name in given]:
        del given[name]
        reading.add(f"the command line: --{name} does not go with --export, which takes a finished run as it is")
    options = reading.checked(given)
    is_run = False
    if (problem := path_problem(run_dir)) is not None:
        reading.add(f"the command line: --export is {problem}")
    elif missing := next((name for name in (CONFIG, CHECKPOINT) if not (Path(run_dir) / name).exists()), None):
        reading.add(
            f"the command line: --export={run_dir} is not the folder of a finished run: {Path(run_dir) / missing} "
            "does not exist"
        )
    else:
        is_run = True
        with reading.caught():
            check_exportable(run_dir, options, lora)
    if not output:
        reading.add("the command line: --export needs --output=FOLDER, a new folder for what is exported")
    elif (problem := path_problem(output)) is not None:
        reading.add(f"the command line: --output is {problem}")
    else:
        with reading.caught():
            check_new(Path(output))

    def check_whole() -> None:
        from recbole_lcrec.experiment.building import saved_config

        saved_config(Path(run_dir), options, reading=reading)

    reading.finish(check_whole if is_run else None)
    target = Path(output or "")

    def start() -> Any:
        from recbole_lcrec.export.exporting import export

        folder = export(run_dir, target, lora=lora, cli=options)
        print(f"Exported to {folder}: its README.md says what is there, and recommend.py recommends.")

    return start
