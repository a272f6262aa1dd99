"""What a run leaves behind: its folder, result.json, and the table that ends the log."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from recbole_lcrec import __version__, registry
from recbole_lcrec.compat import logging_to
from recbole_lcrec.errors import UserError
from recbole_lcrec.evaluation import SEARCH

if TYPE_CHECKING:
    from recbole_lcrec.experiment import Experiment

logger = logging.getLogger(__name__)

CONFIG, RESULT, LOG, EVALUATION = "config.yaml", "result.json", "run.log", "evaluation.json"
OF_A_RUN = (
    *(CONFIG, RESULT, EVALUATION, "evaluation.log", "checkpoint", "tensorboard"),
    *("index.json", "quantizer", "tokenizer", "lm", "user_texts.json", "report.json", "report.html"),
)
"""What a run writes beside its log."""

_PACKAGES = ("recbole", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "scikit-learn")


@contextmanager
def output_folder(folder: Path, log: str, level: str | None) -> Iterator[Callable[[], None]]:
    """Make the output folder and log to a file in it; until ``keep`` is called, failing leaves nothing behind.

    Args:
        folder: The output folder; an earlier run's may be there.
        log: Name of the log file.
        level: RecBole's option ``state``.

    Yields:
        ``keep``, a function to call when the input has turned out right and results are about to be written: it
        removes what an earlier run left, so that no file of it passes for this one's.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{log}.")
    except OSError as error:
        raise UserError(f"output_dir={folder}: cannot be written to ({error.strerror}). Choose another.") from error
    os.close(handle)
    temporary, kept = Path(name), False

    def keep() -> None:
        nonlocal kept
        for part in OF_A_RUN if log == LOG else ():
            path = folder / part
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        temporary.chmod(0o644)
        os.replace(temporary, folder / log)  # the open file goes with its name
        kept = True

    try:
        with logging_to(temporary, level):
            yield keep
    finally:
        if not kept:
            temporary.unlink(missing_ok=True)
            if new:
                shutil.rmtree(folder, ignore_errors=True)


def result_of(experiment: Experiment, valid: dict[str, float] | None, test: dict[str, float] | None) -> dict[str, Any]:
    """Return what result.json holds after a training: metrics, split, samples, parameters, seconds, versions."""
    parameters = list(experiment.model.parameters())
    samples = getattr(experiment.train_data, "samples", None)
    config = experiment.config
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "best_valid_result": valid,
        "valid_users": config["valid_users"],
        "test_result": test,
        **about_evaluation(experiment),
        "split_sha256": experiment.split_sha256,
        "tasks": samples.per_epoch if samples is not None else {},
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "epochs": len(experiment.trainer.train_loss_dict) if hasattr(experiment.trainer, "train_loss_dict") else None,
        "seconds": experiment.timer.seconds,
        "evaluated_users_per_second": getattr(experiment.trainer, "users_per_second", None),
        "index": experiment.dataset.catalogue.indexed.report if registry.is_generative(config["model"]) else {},
        "versions": versions(),
    }


def about_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Return which candidates were ranked, unless the whole catalogue was, and what a generative model was asked."""
    modes = experiment.config["eval_args"]["mode"]
    sampled = any(mode.startswith(("uni", "pop")) for mode in modes.values())
    about: dict[str, Any] = {"candidates": dict(modes)} if sampled else {}
    if not registry.is_generative(experiment.config["model"]):
        return about
    asked = experiment.model.evaluation
    about |= {"eval_task": asked.eval_task, "eval_prompts": asked.eval_prompts}
    if asked.eval_task == SEARCH:
        about["kind"] = "search, not recommendation: users ask for their own targets"
    for phase, results in experiment.by_prompt.items():
        extremes = {
            name: {"lowest": min(r[name] for r in results.values()), "highest": max(r[name] for r in results.values())}
            for name in next(iter(results.values()))
        }
        about[f"{phase}_by_prompt"] = {"prompts": results, **extremes}
    return about


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"recbole_lcrec": __version__, "python": sys.version.split()[0], **packages}


def log_result(result: dict[str, Any], output_dir: Path) -> None:
    """End the log with the metrics, as RecBole's lines and as a table."""
    logger.info("best valid : %s", result["best_valid_result"])
    logger.info("test result: %s", result["test_result"])
    logger.info("Results are in %s", output_dir)
    logger.info("%s on %s\n%s", result["model"], result["dataset"], metrics_table(result))


def metrics_table(result: Mapping[str, Any]) -> str:
    """Return validation and test metrics as a table of plain text."""
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    spread = result.get("test_by_prompt")
    headers = ["metric", "best valid", "test"] + (["lowest", "highest"] if spread else [])
    rows = [[name, valid.get(name), test[name], *(spread[name].values() if spread else ())] for name in test]
    table = tabulate(rows, headers=headers, floatfmt=".4f", missingval="-")
    if "candidates" in result:
        modes = ", ".join(f"{phase}: {mode}" for phase, mode in result["candidates"].items())
        table = f"among candidates ({modes}), not the whole catalogue\n{table}"
    return f"{result['kind']}\n{table}" if "kind" in result else table
