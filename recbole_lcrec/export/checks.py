"""What can be exported at all, as far as the options of a run say it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.registry import is_generative
from recbole_lcrec.config.saved_run import check_evaluation, read_options
from recbole_lcrec.utils.errors import Mistakes, UserError, nearest
from recbole_lcrec.utils.run_files import CONFIG

LORA = ("merged", "beside")
"""Where the adapters of a LoRA run go: into the weights, or into a folder of their own."""


def check_new(folder: Path) -> None:
    """Refuse anything that already exists, except an empty folder.

    Raises:
        UserError: Naming ``output``.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UserError(f"--output={folder}: already exists. Give a new folder, or an empty one.")


def check_exportable(run_dir: str | Path, changes: Mapping[str, Any], lora: str | None) -> dict[str, Any]:
    """Refuse what plain transformers cannot do, as far as the options of a run say it; return these options.

    Args:
        run_dir: Folder of a finished run.
        changes: Options that are given for the export.
        lora: Where adapters go; None for a run without adapters, or into the weights.

    Raises:
        UserError: One message for all mistakes.
    """
    before = read_options(Path(run_dir) / CONFIG)
    options, mistakes = {**before, **changes}, Mistakes()
    with mistakes.caught():
        check_evaluation(changes, before)
    model = options["model"]
    if not is_generative(model):
        mistakes.add(
            f"--export={run_dir}: it is a run of {model}, which generates no items, so there is nothing for "
            "transformers' generate to do. Models that generate paths can be exported (LCRec, LIGER, TIGER, P5CID)."
        )
    if lora is not None and lora not in LORA:
        mistakes.add(f"--export_lora={lora}: expected {' or '.join(LORA)}.{nearest(lora, LORA)}")
    elif lora is not None and options.get("tuning") != "lora":
        mistakes.add(f"--export_lora={lora}: the run has no adapters (tuning={options.get('tuning')}). Leave it out.")
    if options.get("eval_prompts") == "ensemble":
        mistakes.add(
            "eval_prompts=ensemble: the items of several wordings are merged, which one call of generate cannot do. "
            "Add --eval_prompts=[0], or another wording, for an export of this one."
        )
    if options.get("eval_task") == "fusionseqrec":
        mistakes.add(
            "eval_task=fusionseqrec: its prompts have the titles of a history, which an export does not have. Add "
            "--eval_task=seqrec for an export that is asked with item tokens."
        )
    mistakes.finish()
    return options
