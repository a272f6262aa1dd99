"""What a run's folder says about it: options, result, and whether it was cut off. Nothing here imports torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.config.plugins import without_unasked
from recbole_lcrec.config.recbole_options import INSTEAD
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CONFIG, RESULT, STARTING

logger = logging.getLogger(__name__)

CHANGEABLE = (
    *("use_gpu", "gpu_id", "show_progress", "state", "checkpoint_every_n_steps", "keep_last", "keep_states"),
    *("data_path", "download", "dataset_url", "cache_dir", "plugins", "logger"),
)
"""Options that a resumed run may be given: they change nothing in the result except the last digits on a GPU."""

EVALUATION_ONLY = (
    *CHANGEABLE,
    *("output_dir", "nproc", "world_size", "ip", "port", "group_offset", "parallel", "worker"),
    *("topk", "metrics", "valid_metric", "metric_decimal_place", "eval_args", "valid_users", "exclude_history"),
    "repeatable",
    *("eval_batch_size", "num_beams", "score_normalization", "eval_task", "eval_prompts", "item_score_weight"),
    *("length_exponent", "index_missing", "cold_items", "precision", "attention", "share_prefix", "hf_batch_size"),
    *("user_text_batch_size", "log_wandb", "wandb_project", "loss_decimal_place"),
    *("text_encoder", "embedding_ids_file", "index_file", "base_model", "user_text"),  # files that were moved
    *("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path"),
)
"""Options that a finished run may be given anew: they say where things are and how it is evaluated."""


def check_evaluation(options: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse changes to options that the model was trained with.

    Args:
        options: What is given for an evaluation.
        before: The options of the run.

    Raises:
        UserError: Naming all of them, with their values in the run, and what may be given.
    """
    unmeasured = [name for name in ("precision", "attention") if options.get(name) == "auto"]
    if unmeasured:
        raise UserError(
            f"{unmeasured[0]}=auto is measured when a training begins. This run has {unmeasured[0]}="
            f"{before.get(unmeasured[0])}: leave it out, or give another value."
        )
    refused = [name for name in sorted(options.keys() - set(EVALUATION_ONLY)) if options[name] != before.get(name)]
    if refused:
        trained = ", ".join(f"{name}={before.get(name)}" for name in refused)
        raise UserError(
            f"--{', --'.join(refused)} cannot go with a saved run: it was trained with {trained}. Leave "
            f"{'it' if len(refused) == 1 else 'them'} out, or train a new run. These may be given: "
            f"{', '.join(EVALUATION_ONLY)}."
        )


def saved_options(run_dir: Path) -> dict[str, Any]:
    """Return the options of a run, as it resolved them.

    Raises:
        UserError: If the folder holds no run, or the file is cut short or not YAML.
    """
    path = next((run_dir / name for name in (STARTING, CONFIG) if (run_dir / name).is_file()), None)
    if path is None:
        raise UserError(f"{run_dir} is not the folder of a run: it has no {CONFIG}. Give its output_dir.")
    return read_options(path)


def read_options(path: Path) -> dict[str, Any]:
    """Return the options in a config.yaml that a run wrote.

    Raises:
        UserError: If it is cut short: what is missing would silently take other values.
    """
    values = {name: value for name, value in load_values(path).items() if name not in INSTEAD}  # of earlier versions
    # every run has all of RecBole's, in alphabetical order
    expected = {"model", "dataset", *load_values(recbole_dir() / "properties" / "overall.yaml")} - INSTEAD.keys()
    missing = sorted(expected - values.keys())
    if missing:
        raise UserError(
            f"{path} is cut short: {len(missing)} options are missing, e.g. {missing[-1]}. Bring back the whole file, "
            "or train the run again."
        )
    return without_unasked(path, values)


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Return what result.json holds; None if the run has not got that far.

    Raises:
        UserError: If the file cannot be read.
    """
    path = run_dir / RESULT
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result, dict):
            raise ValueError(f"a JSON {type(result).__name__}")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). The run is finished: remove the file and get its metrics with "
            f"--evaluate={run_dir}, or train it again."
        ) from error
    return result


def recorded_split(run_dir: Path) -> str | None:
    """Return the name of the split that a finished run was trained on; None if that is not known."""
    try:
        found = (read_result(run_dir) or {}).get("split_sha256")
        if found is not None and not isinstance(found, str):
            raise UserError(f"{run_dir / RESULT}: split_sha256 is {found!r}, expected the name of a split. ")
    except UserError as error:
        logger.warning("%s. It is not known whether the data are the same.", str(error).split(". ")[0])
        return None
    return found


def check_changes(options: Mapping[str, Any]) -> None:
    """Refuse options that a resumed run cannot be given.

    Raises:
        UserError: Naming them and what may be given.
    """
    refused = sorted(options.keys() - set(CHANGEABLE))
    if refused:
        raise UserError(
            f"--{', --'.join(refused)} cannot go with --resume, which ends with the metrics of the uninterrupted run. "
            f"Leave out what changes them (these may be given: {', '.join(CHANGEABLE)}), or start a new run."
        )
