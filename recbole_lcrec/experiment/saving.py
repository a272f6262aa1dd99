"""The options of a run as its folder keeps them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.data.download import without_credentials
from recbole_lcrec.distributed import group
from recbole_lcrec.model.interface import SavesAssets
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_folder, write_text
from recbole_lcrec.utils.run_files import ASSETS, CHECKPOINT, CONFIG, RESULT, STARTING
from recbole_lcrec.utils.run_folder import check_empty, note_all, seal


def options_text(config: LCRecConfig) -> str:
    """Return all options of a run as YAML, without the credentials in an address."""
    values = config.resolved()
    if values.get("dataset_url"):
        values["dataset_url"] = without_credentials(values["dataset_url"])
    return dump_values(values)


def write_config(config: LCRecConfig, output_dir: Path) -> None:
    """Write all options of a run that has completed its start."""
    if not group.is_main():
        return
    write_text(output_dir / CONFIG, options_text(config))
    (output_dir / STARTING).unlink(missing_ok=True)


def save_run(run: Path, model: Any, folder: Path) -> None:
    """Write a finished run into another folder, with the catalogue that its model has now.

    Args:
        run: Folder of the run.
        model: Its model, perhaps with items that were added since.
        folder: The new run's folder.

    Raises:
        UserError: If the run has no checkpoint, or there are files in the new folder.
    """
    for name in (CONFIG, CHECKPOINT):
        if not (run / name).exists():
            raise UserError(f"{run} is not the folder of a finished run: it has no {name}. Train the model first.")
    check_empty(folder, "run")
    with atomic_folder(folder) as temporary:
        for name in (*ASSETS, CHECKPOINT, RESULT):
            if (run / name).is_dir():
                shutil.copytree(run / name, temporary / name)
            elif (run / name).is_file():
                shutil.copyfile(run / name, temporary / name)
        if isinstance(model, SavesAssets):
            model.save_assets(temporary)
        seal(temporary)
        note_all(temporary)
