"""Runs that can be cut off anywhere and go on: ``--resume=RUN_DIR``.

A run writes training states (see ``recbole_lcrec.training.course``) into ``RUN_DIR/resume`` while it trains;
``RUN_DIR/checkpoint`` remains the best model so far. A resumed run takes index, tokenizer and user texts from its
folder and continues from the newest complete state. A run cut off before its first state starts from the beginning,
with the same outcome.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config import LCRecConfig, settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.saved_run import check_changes, read_result, saved_options
from recbole_lcrec.distributed import group
from recbole_lcrec.experiment.building import build
from recbole_lcrec.experiment.checks import checked_config
from recbole_lcrec.experiment.outcome import Outcome
from recbole_lcrec.experiment.outputs import output_folder
from recbole_lcrec.experiment.running import finish, run_in_folder
from recbole_lcrec.experiment.saving import write_config
from recbole_lcrec.experiment.states import data_fingerprint, keep_states
from recbole_lcrec.training.checkpoint import damage, read_state
from recbole_lcrec.training.states import StateFolder, StateSettings
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CHECKPOINT, FACTS, LOG, RESUME, STARTING
from recbole_lcrec.utils.run_folder import check_assets, seal

logger = logging.getLogger(__name__)


def resume(run_dir: str | Path, cli: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Continue an interrupted run; on a CPU it ends with the same metrics as without the interruption.

    Args:
        run_dir: The run's output folder.
        cli: Options to change, among those that do not affect the result (``saved_run.CHANGEABLE``).

    Returns:
        The contents of result.json, and ``output_dir``; for a finished run, the existing ones.

    Raises:
        UserError: If the folder holds no run, the run cannot be given these options, or its data have changed.
    """
    run_dir, options = Path(run_dir).absolute(), dict(cli or {})
    check_changes(options)
    if (result := finished(run_dir)) is not None:
        return Outcome({**result, "output_dir": str(run_dir)})
    values = saved_options(run_dir)
    config = checked_config(config_dict=values, cli=options)
    config["output_dir"] = str(run_dir)  # it may have been moved
    with output_folder(run_dir, LOG, RunOptions(config).state, append=True) as keep:
        logger.info("Resuming the run in %s", run_dir)
        state = group.from_main(_newest_state(run_dir, config) if group.is_main() else None)
        if state is None:
            logger.info("The run was stopped before there was a training state: it starts from the beginning.")
            return Outcome(run_in_folder(config, keep))
        return Outcome(_go_on(config, run_dir, state))


def finished(run_dir: Path) -> dict[str, Any] | None:
    """Return the result of a finished run; None if the run has to continue.

    Raises:
        UserError: If result.json cannot be read.
    """
    return None if (run_dir / STARTING).is_file() else read_result(run_dir)


def _newest_state(run_dir: Path, config: LCRecConfig) -> Path | None:
    """Return the newest training state that can be used; None if there is none."""
    if (run_dir / STARTING).is_file() or not (run_dir / RESUME / FACTS).is_file():
        return None
    return StateFolder(run_dir / RESUME, settings_from(StateSettings, config)).newest_whole(
        lambda state: _has_its_best(state, run_dir / CHECKPOINT)
    )


def _has_its_best(state: Path, best: Path) -> bool:
    """Return whether the best model that a state refers to is there, or a later one, which will be reached again."""
    try:
        wanted = read_state(state)["counters"]["best_epoch"]
        if wanted is None:
            return True
        problem = damage(best)
        if problem is None:
            found = read_state(best)["epoch"]
            if found >= wanted:
                return True
            problem = f"it is of epoch {found}"
    except (UserError, KeyError, TypeError) as error:
        logger.warning("%s is not used: it is not a training state (%s).", state, error)
        return False
    logger.warning("%s is not used: %s is not the best checkpoint of epoch %d (%s).", state, best, wanted, problem)
    return False


def _go_on(config: LCRecConfig, run_dir: Path, state: Path) -> dict[str, Any]:
    facts = _read_facts(run_dir / RESUME / FACTS)
    check_assets(run_dir)
    experiment = build(config=config, saved=run_dir)
    if facts["data"] != data_fingerprint(experiment):
        raise UserError(
            f"{run_dir}: the data set is not the one that the run began with. Bring back the old files, or set "
            "data_path to them; for other data start a new run."
        )
    if experiment.trainer.device.type != "cpu":
        logger.warning("On a GPU, sums are not computed in a fixed order: the last digits of the metrics may differ.")
    write_config(config, run_dir)
    if group.is_main():
        seal(run_dir)
    earlier = experiment.trainer.resume_checkpoint(state)
    experiment.timer.add(earlier["seconds"])
    keep_states(experiment)
    return finish(experiment, facts["index"])


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {"data": facts["data"], "index": dict(facts["index"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}). Remove it to have the run start from the beginning."
        ) from error
