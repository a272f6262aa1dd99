"""What a run leaves behind: its folder, result.json, and the table that ends the log."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from recbole_lcrec.config import registry
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.seen import excluded_targets
from recbole_lcrec.data.split import items_sha256
from recbole_lcrec.distributed import group
from recbole_lcrec.evaluation.queries import SEARCH
from recbole_lcrec.evaluation.ranks import beyond_accuracy, item_counts
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.model.interface import HasSamples
from recbole_lcrec.training.interruption import Interrupted
from recbole_lcrec.utils.checkout import commit
from recbole_lcrec.utils.cores import usable_cores
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import hidden_beside, is_temporary, mend, remove
from recbole_lcrec.utils.integrity import MANIFEST
from recbole_lcrec.utils.locks import run_lock
from recbole_lcrec.utils.recbole_patches import logging_to, silenced
from recbole_lcrec.utils.run_files import LOG, OF_A_RUN, RANKS, STARTING
from recbole_lcrec.utils.run_folder import claim, clear, unclaim
from recbole_lcrec.version import __version__

logger = logging.getLogger(__name__)

_PACKAGES = ("recbole", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "scikit-learn")


@contextmanager
def output_folder(folder: Path, log: str, level: str | None, *, append: bool = False) -> Iterator[Callable[[], None]]:
    """Make the output folder and log to a file in it; until ``keep`` is called, a failure leaves everything as it was.

    A run (not an evaluation) has the folder to itself. Of several processes, only the main one logs and writes.

    Args:
        folder: The output folder, perhaps that of an earlier run.
        log: Name of the log file.
        level: RecBole's option ``state``.
        append: Whether to continue the log of an interrupted run.

    Yields:
        ``keep``, a function to call when results are about to be written: it removes what an earlier run wrote, so
        that none of its files passes for this run's.

    Raises:
        UserError: If the folder cannot be written to, holds files that are not a run's, or is in use by another run.
    """
    if not group.is_main():
        with silenced():
            yield lambda: None
        return
    new = not folder.exists()
    temporary = hidden_beside(folder / log)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise UserError(f"output_dir={folder}: cannot be written to ({error.strerror}). Choose another.") from error
    kept = append

    def keep() -> None:
        nonlocal kept
        if log == LOG:
            clear(folder)
        if not append:
            os.replace(temporary, folder / log)  # the open file goes with its name
        kept = True

    try:
        with run_lock(folder) if log == LOG else nullcontext():
            claimed = log == LOG and not append and claim(folder)
            try:
                if log == LOG:
                    _mend(folder, temporary)
                with logging_to(folder / log if append else temporary, level, append=append):
                    yield keep
            except Interrupted as stop:
                stop.run_dir = folder if kept and log == LOG else None
                raise
            finally:
                if not kept:
                    (folder / STARTING).unlink(missing_ok=True)
                    if claimed:
                        unclaim(folder)
    finally:
        temporary.unlink(missing_ok=True)
        if not kept and new:
            shutil.rmtree(folder, ignore_errors=True)


def _mend(folder: Path, log: Path) -> None:
    """Clear away what a killed run was writing in its folder; restore a checkpoint that it was replacing."""
    for part in (*OF_A_RUN, STARTING, MANIFEST):
        mend(folder / part)
    for rest in folder.iterdir():
        if is_temporary(rest.name, LOG) and rest != log:
            remove(rest)


def result_of(experiment: Experiment, valid: dict[str, float] | None, test: dict[str, float] | None) -> dict[str, Any]:
    """Return the contents of result.json: metrics, split, samples, parameters, seconds, versions."""
    run, loader, trainer = RunOptions(experiment.config), experiment.train_data, experiment.trainer
    network = experiment.model
    parameters = list(network.parameters()) if isinstance(network, torch.nn.Module) else []  # trees have none
    return {
        "model": run.model,
        "dataset": run.dataset,
        "seed": run.seed,
        "best_valid_result": valid,
        "valid_users": run.valid_users,
        "test_result": test,
        **about_ranks(experiment),
        **about_evaluation(experiment),
        "split_sha256": experiment.split_sha256,
        "items_sha256": items_sha256(experiment.dataset),
        "tasks": dict(loader.samples.per_epoch) if isinstance(loader, HasSamples) else {},
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "epochs": trainer.epochs_done,
        **trainer.later_stages,
        "seconds": experiment.timer.seconds,
        "evaluated_users_per_second": trainer.users_per_second,
        "index": experiment.dataset.catalogue.indexed.report if registry.has_index(run.model) else {},
        "memory": peak_memory(),
        "processes": group.place().world_size,
        "machine": {"cores": usable_cores(), "torch_threads": torch.get_num_threads()},
        "learning_curve": trainer.chronicle.curve.points,
        "date": date.today().isoformat(),
        "commit": commit(),
        "versions": versions(),
    }


def about_ranks(experiment: Experiment) -> dict[str, Any]:
    """Return measures of the tested lists beyond accuracy, and how many ranks are not known exactly."""
    ranks = experiment.ranks
    if ranks is None:
        return {}
    about = {
        "file": RANKS,
        "among": RunOptions(experiment.config).eval_modes["test"],
        "list": ranks.top.shape[1],
        "rows": len(ranks.ranks),
        "censored": int(ranks.censored.sum()),
    }
    counts = item_counts(experiment.train_data._dataset)
    return {"beyond_accuracy": beyond_accuracy(ranks, counts), "ranks": about}


def peak_memory() -> dict[str, float | None]:
    """Return the peak memory in MiB of this process so far, and of torch on the GPU (None without one)."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {"peak_mib": round(kilobytes / 1024, 1), "peak_gpu_mib": None if gpu is None else round(gpu, 1)}


def about_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Return which candidates were ranked, if not the whole catalogue, and what a generative model was asked."""
    run = RunOptions(experiment.config)
    modes = run.eval_modes
    sampled = any(mode.startswith(("uni", "pop")) for mode in modes.values())
    about: dict[str, Any] = {"candidates": dict(modes)} if sampled else {}
    if run.exclude_history:
        about["exclude_history"] = _about_exclusion(experiment)
    if not registry.is_generative(run.model):
        return about
    asked = experiment.model.evaluation
    about |= {"eval_task": asked.eval_task, "eval_prompts": asked.eval_prompts}
    about["score_normalization"] = asked.normalization
    if experiment.model.item_score_weight:
        about["item_score_weight"] = experiment.model.item_score_weight
    if asked.eval_task == SEARCH:
        about["kind"] = "search, not recommendation: users ask for their own targets"
    for phase, results in experiment.by_prompt.items():
        extremes = {
            name: {"lowest": min(r[name] for r in results.values()), "highest": max(r[name] for r in results.values())}
            for name in next(iter(results.values()))
        }
        about[f"{phase}_by_prompt"] = {"prompts": results, **extremes}
    return about


def _about_exclusion(experiment: Experiment) -> dict[str, Any]:
    """Return phase -> number of targets excluded with their user's history, and of all targets."""
    loaders = {"valid": experiment.valid_data, "test": experiment.test_data}
    counts = {phase: excluded_targets(loader) for phase, loader in loaders.items() if loader is not None}
    return {phase: {"excluded_targets": lost, "targets": total} for phase, (lost, total) in counts.items()}


def versions() -> dict[str, str]:
    """Return the versions of the software that results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"recbole_lcrec": __version__, "python": sys.version.split()[0], **packages}


def log_result(result: dict[str, Any], output_dir: Path) -> None:
    """End the log with the output folder and the metrics as a table."""
    logger.info("Everything is in %s", output_dir)
    logger.info("%s on %s\n%s", result["model"], result["dataset"], metrics_table(result))


def metrics_table(result: Mapping[str, Any]) -> str:
    """Return validation and test metrics as a plain-text table."""
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    spread = result.get("test_by_prompt")
    headers = ["metric", "best valid", "test"] + (["lowest", "highest"] if spread else [])
    rows = [[name, valid.get(name), test[name], *(spread[name].values() if spread else ())] for name in test]
    table = tabulate(rows, headers=headers, floatfmt=".4f", missingval="-")
    if "candidates" in result:
        modes = ", ".join(f"{phase}: {mode}" for phase, mode in result["candidates"].items())
        table = f"among candidates ({modes}), not the whole catalogue\n{table}"
    if "exclude_history" in result:
        lost = result["exclude_history"]["test"]
        about = f"{lost['excluded_targets']} of {lost['targets']} test targets are among them and count as misses"
        table = f"without the items of each user's history ({about})\n{table}"
    return f"{result['kind']}\n{table}" if "kind" in result else table
