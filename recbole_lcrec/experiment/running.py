"""A whole run: train, validate, test and write; or the item index alone; or a finished run evaluated again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.saved_run import recorded_split
from recbole_lcrec.distributed import group
from recbole_lcrec.evaluation.ranks import write_ranks
from recbole_lcrec.experiment.building import build, load_experiment, output_dir_of
from recbole_lcrec.experiment.checks import checked_config
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.experiment.outcome import Outcome
from recbole_lcrec.experiment.outputs import about_evaluation, log_result, output_folder, result_of, versions
from recbole_lcrec.experiment.run_page import write_report
from recbole_lcrec.experiment.saving import options_text, write_config
from recbole_lcrec.experiment.split_loaders import split_of
from recbole_lcrec.experiment.states import forget_states, keep_states, write_facts
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json, write_text
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.utils.run_files import EVALUATION, LOG, OF_EVALUATION, RANKS, RESULT, STARTING
from recbole_lcrec.utils.run_folder import check_free, holds_training, note, note_all, seal
from recbole_lcrec.utils.timer import StageTimer

logger = logging.getLogger(__name__)


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_files: str | Path | Sequence[str | Path] = (),
    cli: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, validate and test a model; write everything to the output folder and return the result.

    Args:
        model: Name of a model of this package or of RecBole.
        dataset: Name of a data set.
        config_dict: Options; they override files.
        config_files: YAML files of options; later ones override earlier ones.
        cli: Options that override all others.

    Returns:
        The contents of result.json, and ``output_dir``.

    Raises:
        UserError: For anything that the user has to correct; nothing half-written stays behind.
    """
    config = checked_config(model, dataset, config_files, config_dict, cli)
    chosen = RunOptions(config)
    own_folder, output_dir = not chosen.output_dir, output_dir_of(config)
    config["output_dir"] = str(output_dir)
    try:
        with output_folder(output_dir, LOG, chosen.state) as keep:
            return Outcome(run_in_folder(config, keep))
    finally:
        if own_folder and group.is_main():
            with suppress(OSError):  # usually not empty
                output_dir.rmdir()


def run_in_folder(config: LCRecConfig, keep: Callable[[], None]) -> dict[str, Any]:
    """Perform a whole run in its output folder; see ``run``.

    Args:
        config: The experiment's configuration, with ``output_dir``.
        keep: What ``output_folder`` yielded.
    """
    chosen = RunOptions(config)
    output_dir = output_dir_of(config)
    if group.is_main():
        # all that --resume needs if the run is killed before it has begun
        write_text(output_dir / STARTING, options_text(config))
    if chosen.stage == "index":
        return _run_index(config, output_dir, keep)
    experiment = build(config=config)
    _tell_model(experiment)
    keep_states(experiment)

    def begin() -> None:
        keep()
        if group.is_main():
            experiment.describe()
            write_facts(experiment)

    if holds_training(output_dir):
        logger.warning("%s holds an earlier run, which this one replaces when it has something to save.", output_dir)
        return finish(experiment, before_writing=begin)
    begin()
    return finish(experiment)


def _tell_model(experiment: Experiment) -> None:
    """Log the size of the model, and its modules at level DEBUG."""
    logger.debug(experiment.model)
    if isinstance(experiment.model, torch.nn.Module):  # trees have no parameters
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in experiment.model.parameters()]
        total, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
        which = "all trained" if trained == total else f"{trained:,} of them trained"
        logger.info("%s: %s parameters, %s", RunOptions(experiment.config).model, f"{total:,}", which)


def finish(
    experiment: Experiment,
    index: Mapping[str, Any] | None = None,
    *,
    before_writing: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train, test and write the result; then the training states are no longer needed.

    Args:
        experiment: A new experiment, or one that continues from a training state.
        index: The report of the item index, if it was built in an earlier process.
        before_writing: See ``Experiment.fit``.
    """
    output_dir = experiment.output_dir
    chronicle = experiment.trainer.chronicle
    with chronicle.loggers:  # they are closed before the run's files are counted
        best_valid = experiment.fit(before_writing=before_writing)
        test = experiment.evaluate("test", load_best=True)
        if test is not None:
            chronicle.tested(test)
    if experiment.ranks is not None:
        write_ranks(output_dir / RANKS, experiment.ranks, experiment)
    result = result_of(experiment, best_valid, test)
    result["index"] = dict(index) if index else result["index"]
    if not group.is_main():
        return {**result, "output_dir": str(output_dir)}
    write_json(output_dir / RESULT, result)
    write_report(experiment, result)
    forget_states(experiment)
    note_all(output_dir)
    log_result(result, output_dir)
    return {**result, "output_dir": str(output_dir)}


def _run_index(config: LCRecConfig, output_dir: Path, keep: Callable[[], None]) -> dict[str, Any]:
    """Build the item index alone: index.json, the quantizer and the quality report."""
    chosen = RunOptions(config)
    timer = StageTimer()
    with quiet():
        data, parts = split_of(config, timer)
        indexed = data.index_items(timer, parts)
        keep()
        write_config(config, output_dir)
        with timer("report"):
            indexed.save(output_dir)
            quality = indexed.write_report(output_dir)
        for warning in quality["warnings"]:
            logger.warning("Item index: %s", warning["text"])
        result = {
            "model": chosen.model,
            "dataset": chosen.dataset,
            "seed": chosen.seed,
            "index": indexed.report,
            "seconds": timer.seconds,
            "versions": versions(),
        }
        write_json(output_dir / RESULT, result)
        seal(output_dir)
        note_all(output_dir)
        logger.info("Index, quantizer and report (report.html) are in %s", output_dir)
        logger.info("Use it with --index_file=%s", output_dir / "index.json")
    return {**result, "output_dir": str(output_dir)}


def evaluate(run_dir: str | Path, cli: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Evaluate a saved run without training; write ``evaluation.json`` into its folder (or into ``output_dir``).

    Returns:
        Validation and test metrics: without changed options, the same numbers as when the run ended.

    Raises:
        UserError: If the folder holds no finished run, or the data are not those that it was trained on.
    """
    run_dir = Path(run_dir).absolute()
    options = arguments.options("cli", cli)
    target = Path(options.pop("output_dir", None) or run_dir).absolute()
    if target != run_dir and target.is_dir():
        check_free(target)
    with output_folder(target, OF_EVALUATION[1], "INFO") as keep:
        experiment = load_experiment(run_dir, options)
        chosen = RunOptions(experiment.config)
        before = recorded_split(run_dir)
        if before and before != experiment.split_sha256:
            raise UserError(
                f"{run_dir}: the data set is not the one that the run was trained on (split {before[:12]}, now "
                f"{experiment.split_sha256[:12]}). Bring back the old files, or set data_path to them."
            )
        keep()
        valid, test = experiment.evaluate("valid"), experiment.evaluate("test")
        result = {
            "model": chosen.model,
            "dataset": chosen.dataset,
            "run": str(run_dir),
            "best_valid_result": valid,
            "test_result": test,
            **about_evaluation(experiment),
            "split_sha256": experiment.split_sha256,
            "evaluated_users_per_second": experiment.trainer.users_per_second,
        }
        if group.is_main():
            write_json(target / EVALUATION, result)
            note(target, OF_EVALUATION, new=target != run_dir)
        log_result(result, target)
    return Outcome(result)
