"""The command line of an export: all that is wrong with it is said at once, before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import path_problem
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.registry import is_generative
from recbole_lcrec.config.saved_run import check_evaluation, read_options
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG

LORA = ("merged", "beside")
"""Where the adapters of a LoRA run go: into the weights, or into a folder of their own."""

_OWN = ("output", "export_lora")
_OTHERS = ("evaluate", "resume", "tune", "resume_tune", "config_files", "model", "dataset", "output_dir")


def parse_export(given: dict[str, Given], reading: Reading) -> Callable[[], Any]:
    """Return the export that a command line asks for, as a function that does it.

    Args:
        given: Arguments of the command line, ``export`` among them.
        reading: Gets the mistakes.

    Raises:
        UserError: One message for everything that is wrong.
    """
    run_dir = given.pop("export").text or ""
    output, lora = (given.pop(name).text if name in given else None for name in _OWN)
    for name in [name for name in _OTHERS if name in given]:
        del given[name]
        reading.add(f"the command line: --{name} does not go with --export, which takes a finished run as it is")
    options = reading.checked(given)
    if (problem := path_problem(run_dir)) is not None:
        reading.add(f"the command line: --export is {problem}")
    elif missing := next((name for name in (CONFIG, CHECKPOINT) if not (Path(run_dir) / name).exists()), None):
        reading.add(
            f"the command line: --export={run_dir} is not the folder of a finished run: {Path(run_dir) / missing} "
            "does not exist"
        )
    if not output:
        reading.add("the command line: --export needs --output=FOLDER, a new folder for what is exported")
    elif (problem := path_problem(output)) is not None:
        reading.add(f"the command line: --output is {problem}")
    reading.finish()
    assert output
    target = Path(output)
    check_new(target)
    check_exportable(run_dir, options, lora)

    def start() -> Any:
        from recbole_lcrec.export.exporting import export

        folder = export(run_dir, target, lora=lora, cli=options)
        print(f"Exported to {folder}: its README.md says what is there, and recommend.py recommends.")

    return start


def check_new(folder: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        UserError: Naming ``output``.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UserError(f"--output={folder}: there is something already. Give a new folder, or an empty one.")


def check_exportable(run_dir: str | Path, changes: Mapping[str, Any], lora: str | None) -> dict[str, Any]:
    """Refuse what plain transformers cannot do, as far as the options of a run say it; return these options.

    Args:
        run_dir: Folder of a finished run.
        changes: Options that are given for the export.
        lora: Where adapters are to go; None for a run without adapters, or into the weights.

    Raises:
        UserError: One message for everything.
    """
    before = read_options(Path(run_dir) / CONFIG)
    check_evaluation(changes, before)
    options, reading = {**before, **changes}, Reading()
    model = options["model"]
    if not is_generative(model):
        reading.add(
            f"--export={run_dir}: it is a run of {model}, which generates no items, so there is nothing for "
            "transformers' generate to do. Models with an item index can be exported (LCRec, TIGER, P5CID)."
        )
    if lora is not None and lora not in LORA:
        reading.add(f"--export_lora={lora}: expected {' or '.join(LORA)}.{nearest(lora, LORA)}")
    elif lora is not None and options.get("tuning") != "lora":
        reading.add(f"--export_lora={lora}: the run has no adapters (tuning={options.get('tuning')}). Leave it out.")
    if options.get("eval_prompts") == "ensemble":
        reading.add(
            "eval_prompts=ensemble: the items of several wordings are merged, which one call of generate cannot do. "
            "Add --eval_prompts=[0], or another wording, for an export of this one."
        )
    if options.get("eval_task") == "fusionseqrec":
        reading.add(
            "eval_task=fusionseqrec: its prompts have the titles of a history, which an export does not have. Add "
            "--eval_task=seqrec for an export that is asked with item tokens."
        )
    reading.finish()
    return options
