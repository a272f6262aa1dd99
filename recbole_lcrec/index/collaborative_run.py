"""The item embeddings that a finished run of another model has learned, for quantizers that align codes with them.

They are read, not unpickled: from a safetensors file whose hash the run has recorded. A run is accepted only if it was
trained on the same split, so that nothing about validation or test interactions gets into the codes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config.saved_run import read_result
from recbole_lcrec.data.split import items_sha256, split_sha256
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.integrity import damage
from recbole_lcrec.utils.run_files import CHECKPOINT

TABLE = "item_embedding.weight"
"""The name of the table of item embeddings in RecBole's models that have one (SASRec, GRU4Rec, BPR, LightGCN, ...)."""
WEIGHTS = "model.safetensors"


def collaborative_vectors(run: str | Path, dataset: Any, parts: Any) -> np.ndarray:
    """Return the embeddings of RecBole's items, float32 [item_num - 1, d], by item id from 1.

    Args:
        run: Folder of a finished run.
        dataset: The data set of these items.
        parts: Its training, validation and test parts.

    Raises:
        UserError: If the folder holds no finished run, one of another split or other items, or a model without a table
            of finite embeddings; or if its weights are damaged.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(run).expanduser()
    what = f"collaborative_from={run}"
    result = read_result(folder)
    if result is None or not (folder / CHECKPOINT).is_dir():
        raise UserError(f"{what}: not the folder of a finished run. {_HOW}")
    same = {"split_sha256": split_sha256(*parts), "items_sha256": items_sha256(dataset)}
    for name, expected in same.items():
        found = result.get(name)
        if found != expected:
            other = "another split" if name == "split_sha256" else "other items, or the same ones in another order"
            raise UserError(
                f"{what}: that run is of {other} ({name} {str(found)[:12]}, here {expected[:12]}), so its embeddings "
                f"may have seen what is held out here. {_HOW}"
            )
    if (problem := damage(folder / CHECKPOINT, [WEIGHTS])) is not None:
        raise UserError(f"{what}: its checkpoint is damaged: {problem}. Train that run again.")
    try:
        with safe_open(str(folder / CHECKPOINT / WEIGHTS), framework="np") as weights:
            if TABLE not in weights.keys():
                model = result.get("model")
                raise UserError(f"{what}: {model} has no table {TABLE}. Take a run of SASRec, GRU4Rec or LightGCN.")
            table = weights.get_tensor(TABLE).astype(np.float32)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{what}: its weights cannot be read ({error}). Train that run again.") from error
    if table.ndim != 2 or len(table) != dataset.item_num or not np.isfinite(table).all():
        raise UserError(
            f"{what}: expected {dataset.item_num} finite rows in {TABLE}, found an array of shape {list(table.shape)}."
        )
    return table[1:]


_HOW = (
    "Train one with the same data options, e.g. --model=SASRec --output_dir=saved/sasrec, and give "
    "--collaborative_from=saved/sasrec."
)
