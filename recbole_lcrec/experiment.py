"""From a configuration to an experiment, and what can be done with one: run, load, evaluate, recommend.

``build`` is the one place where a configuration becomes data, model and trainer.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType, init_seed
from tabulate import tabulate

from recbole_lcrec import __version__, registry
from recbole_lcrec.compat import logging_to, quiet, restore_numpy_names, restore_scipy_names
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.data.fetch import fetch_dataset
from recbole_lcrec.data.split import sample_users, split_sha256
from recbole_lcrec.errors import UserError
from recbole_lcrec.io import write_json, write_text
from recbole_lcrec.stages import StageTimer

logger = logging.getLogger(__name__)

CONFIG, RESULT, LOG, EVALUATION = "config.yaml", "result.json", "run.log", "evaluation.json"
OF_A_RUN = (CONFIG, RESULT, EVALUATION, "evaluation.log", "checkpoint", "index.json", "tokenizer", "lm", "tensorboard")
"""What a run writes beside its log."""

_PACKAGES = ("recbole", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "scikit-learn")


@dataclass
class Experiment:
    """A configuration with its data, model and trainer.

    Attributes:
        config: All options, resolved.
        dataset: The whole data set, filtered and remapped.
        train_data: Loader of the training phase; likewise ``valid_data`` (None without validation users) and
            ``test_data``.
        model: The model.
        trainer: The trainer; its files go to ``output_dir``.
        output_dir: Folder of the run.
        split_sha256: Names the split (see ``recbole_lcrec.data.split.split_sha256``).
        timer: Seconds per stage so far.
    """

    config: LCRecConfig
    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    model: Any
    trainer: Any
    output_dir: Path
    split_sha256: str
    timer: StageTimer = field(default_factory=StageTimer)

    def fit(self) -> dict[str, float] | None:
        """Train the model; return the best validation result (None without validation users)."""
        with self.timer("train"), quiet():
            _, best = self.trainer.fit(
                self.train_data, self.valid_data, saved=True, show_progress=bool(self.config["show_progress"])
            )
        return None if best is None else dict(best)

    def evaluate(self, phase: str = "test", *, load_best: bool = False) -> dict[str, float] | None:
        """Return the metrics of the "valid" or "test" phase; with ``load_best`` those of the best checkpoint."""
        data = {"valid": self.valid_data, "test": self.test_data}[phase]
        if data is None:
            return None
        self.trainer.eval_collector.data_collect(self.train_data)
        with self.timer(phase), quiet():
            result = self.trainer.evaluate(
                data, load_best_model=load_best, show_progress=bool(self.config["show_progress"])
            )
        return dict(result)

    def recommend(self, histories: Sequence[Sequence[str]], k: int = 10) -> tuple[list[list[str]], list[list[float]]]:
        """Recommend items for histories of item tokens.

        Args:
            histories: Item tokens (raw ids, as strings), oldest first; only the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; generative models return at most as many as the catalogue has.

        Returns:
            Item tokens and scores, best first, one list per history.

        Raises:
            UserError: For an empty history, an unknown item token, or a model that scores users and not histories.
        """
        if k < 1:
            raise UserError(f"recommend: k must be at least 1, found {k}.")
        if any(isinstance(history, str) or not len(history) for history in histories):
            raise UserError("recommend: expected histories as non-empty lists of item tokens.")
        self.model.eval()
        items: list[list[str]] = []
        scores: list[list[float]] = []
        step = max(int(self.config["eval_batch_size"]), 1) if registry.is_generative(self.config["model"]) else 256
        with torch.no_grad():
            for start in range(0, len(histories), step):
                batch = [[str(item) for item in history] for history in histories[start : start + step]]
                tokens, values = self._recommend_batch(batch, k)
                items += tokens
                scores += values
        return items, scores

    def _recommend_batch(self, histories: list[list[str]], k: int) -> tuple[list[list[str]], list[list[float]]]:
        if hasattr(self.model, "recommend_rows"):
            from recbole_lcrec.instruction.dataset import rows_of_items

            catalogue = self.model.catalogue
            rows, values = self.model.recommend_rows([rows_of_items(catalogue, history) for history in histories], k)
            return [[catalogue.text.items[row] for row in line] for line in rows], values.tolist()
        tokens = self.dataset.field2id_token[self.dataset.iid_field]
        scores = self.model.full_sort_predict(self._interaction(histories)).view(len(histories), -1).float()
        scores[:, 0] = -torch.inf
        values_, ids = scores.topk(min(k, scores.shape[1] - 1), dim=1)
        return [[str(tokens[i]) for i in line] for line in ids.tolist()], values_.tolist()

    def _interaction(self, histories: list[list[str]]) -> Interaction:
        """Return RecBole's form of histories of item tokens for its sequential models."""
        if self.config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
            raise UserError(
                f"recommend: {self.config['model']} scores users of the data set and has no use for histories. "
                "Use a sequential or generative model."
            )
        dataset, width = self.dataset, int(self.config["MAX_ITEM_LIST_LENGTH"])
        known = dataset.field2token_id[dataset.iid_field]
        unknown = [item for history in histories for item in history if item not in known]
        if unknown:
            raise UserError(f"recommend: {len(unknown)} item(s) are not in the data set, e.g. {unknown[0]!r}.")
        ids = torch.zeros(len(histories), width, dtype=torch.int64)
        lengths = torch.zeros(len(histories), dtype=torch.int64)
        for row, history in enumerate(histories):
            kept = [known[item] for item in history[-width:]]
            ids[row, : len(kept)] = torch.tensor(kept)
            lengths[row] = len(kept)
        fields = {
            dataset.uid_field: torch.zeros(len(histories), dtype=torch.int64),
            dataset.iid_field + self.config["LIST_SUFFIX"]: ids,
            self.config["ITEM_LIST_LENGTH_FIELD"]: lengths,
        }
        return Interaction(fields).to(self.config["device"])


def build(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_files: Sequence[str | Path] = (),
    cli: Mapping[str, Any] | None = None,
    *,
    config: LCRecConfig | None = None,
    saved: Path | None = None,
) -> Experiment:
    """Make an experiment from options.

    Args:
        model: Name of a model of this package or of RecBole.
        dataset: Name of a data set.
        config_dict: Options; they win over files.
        config_files: YAML files of options; later ones win over earlier ones.
        cli: Options that win over all others.
        config: A ready configuration instead of all the above.
        saved: Folder of a finished run whose index, tokenizer and weights are loaded.

    Raises:
        UserError: For anything in the options or the data that the user has to change.
    """
    config = config or LCRecConfig(model, dataset, config_files, config_dict, cli)
    output_dir = saved or _output_dir(config)
    config["output_dir"] = str(output_dir)
    config["checkpoint_dir"] = str(output_dir)
    config["saved_run"] = str(saved) if saved else None
    config["cache_dir"] = str(Path(config["cache_dir"]).absolute())
    timer = StageTimer()
    with quiet():
        data, train_data, valid_data, test_data, sha = build_data(config, timer, saved)
        init_seed(config["seed"], config["reproducibility"])
        with timer("model"):
            network = registry.make_model(config, train_data._dataset).to(config["device"])
            trainer = registry.trainer_class(config)(config, network)
    return Experiment(config, data, train_data, valid_data, test_data, network, trainer, output_dir, sha, timer)


def build_data(config: LCRecConfig, timer: StageTimer, saved: Path | None = None) -> tuple[Any, Any, Any, Any, str]:
    """Make the data part of an experiment: data set, the loaders of the three phases, and the split's name.

    Args:
        config: The experiment's configuration.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run whose index and tokenizer are used, or None.
    """
    restore_numpy_names()
    restore_scipy_names()
    init_seed(config["seed"], config["reproducibility"])
    fetch_dataset(config)
    with timer("data"):
        data = registry.dataset_class(config)(config)
        logger.info(data)
        train, valid, test = parts = data.build()
    for phase, part, least in (("training", train, 2), ("test", test, 3)):
        if not len(part.inter_feat):
            raise UserError(
                f"{data.dataset_name}: no user is left for the {phase} part. The split needs users with at least "
                f"{least} interactions; loosen the filters or bring more data."
            )
    if registry.is_generative(config["model"]):
        data.prepare(timer, parts, saved)
    with timer("data"):
        return (data, *_loaders(config, data, parts))


def _output_dir(config: LCRecConfig) -> Path:
    given = config["output_dir"]
    name = f"{config['model']}-{config['dataset']}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path(given or Path("saved") / name).absolute()


def _loaders(config: LCRecConfig, data: Any, parts: Sequence[Any]) -> tuple[Any, Any, Any, str]:
    """Return the loaders of the three parts of the split, and the split's name."""
    train, valid, test = parts
    sha = split_sha256(train, valid, test)
    train_sampler, valid_sampler, test_sampler = create_samplers(config, data, parts)
    samplers = [train_sampler]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        negatives = config["train_neg_sample_args"]
        samplers.append(KGSampler(data, negatives["distribution"], negatives["alpha"]))
    train_data = registry.train_loader_class(config)(config, train, *samplers, shuffle=config["shuffle"])
    valid_data = None
    if len(valid.inter_feat):
        valid = sample_users(valid, config["valid_users"], config["seed"])
        valid_data = get_dataloader(config, "valid")(config, valid, valid_sampler, shuffle=False)
    else:
        logger.warning("No user has the four interactions that validation needs: training runs for all its epochs.")
    test_data = get_dataloader(config, "test")(config, test, test_sampler, shuffle=False)
    logger.info("Split %s: %d training, %d validation, %d test rows.", sha[:12], *(len(p.inter_feat) for p in parts))
    return train_data, valid_data, test_data, sha


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_files: Sequence[str | Path] = (),
    cli: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, validate and test a model; write everything to the output folder and return the result.

    Args:
        model: Name of a model of this package or of RecBole.
        dataset: Name of a data set.
        config_dict: Options; they win over files.
        config_files: YAML files of options; later ones win over earlier ones.
        cli: Options that win over all others.

    Returns:
        What result.json holds, and ``output_dir``.

    Raises:
        UserError: For anything that the user has to change; nothing half-written stays behind.
    """
    config = LCRecConfig(model, dataset, config_files, config_dict, cli)
    config["output_dir"] = str(_output_dir(config))
    output_dir = Path(config["output_dir"])
    with _output_folder(output_dir, LOG, config["state"]) as keep:
        experiment = build(config=config)
        keep()
        write_text(output_dir / CONFIG, yaml.safe_dump(config.resolved(), sort_keys=True, allow_unicode=True))
        if hasattr(experiment.model, "save_assets"):
            experiment.model.save_assets(output_dir)
        logger.info(experiment.model)
        best_valid = experiment.fit()
        test = experiment.evaluate("test", load_best=True)
        result = _result(experiment, best_valid, test)
        write_json(output_dir / RESULT, result)
        _log_result(result, output_dir)
    return {**result, "output_dir": str(output_dir)}


@contextmanager
def _output_folder(folder: Path, log: str, level: str | None) -> Iterator[Callable[[], None]]:
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


def _result(experiment: Experiment, valid: dict[str, float] | None, test: dict[str, float] | None) -> dict[str, Any]:
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
        "split_sha256": experiment.split_sha256,
        "tasks": samples.per_epoch if samples is not None else {},
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "epochs": len(experiment.trainer.train_loss_dict) if hasattr(experiment.trainer, "train_loss_dict") else None,
        "seconds": experiment.timer.seconds,
        "evaluated_users_per_second": getattr(experiment.trainer, "users_per_second", None),
        "index": dict(getattr(getattr(experiment.dataset, "catalogue", None), "index_report", {})),
        "versions": {
            "recbole_lcrec": __version__,
            "python": sys.version.split()[0],
            **{name: metadata.version(name) for name in _PACKAGES},
        },
    }


def _log_result(result: dict[str, Any], output_dir: Path) -> None:
    logger.info("best valid : %s", result["best_valid_result"])
    logger.info("test result: %s", result["test_result"])
    logger.info("Results are in %s", output_dir)
    logger.info("%s on %s\n%s", result["model"], result["dataset"], metrics_table(result))


def metrics_table(result: Mapping[str, Any]) -> str:
    """Return validation and test metrics as a table of plain text."""
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    rows = [[name, valid.get(name), test[name]] for name in test]
    return tabulate(rows, headers=["metric", "best valid", "test"], floatfmt=".4f", missingval="-")


def load_experiment(run_dir: str | Path, cli: Mapping[str, Any] | None = None) -> Experiment:
    """Load a finished run: its data, index, tokenizer and best weights.

    Args:
        run_dir: The run's output folder.
        cli: Options to change, such as ``data_path`` after the data were moved, or ``eval_batch_size``.

    Raises:
        UserError: If the folder holds no finished run or its data are not there any more.
    """
    from recbole_lcrec.training.checkpoint import load_checkpoint

    run_dir = Path(run_dir).absolute()
    for name in (CONFIG, "checkpoint"):
        if not (run_dir / name).exists():
            raise UserError(f"{run_dir} is not the folder of a finished run: it has no {name}. Give its output_dir.")
    experiment = build(config=LCRecConfig(config_dict=load_values(run_dir / CONFIG), cli=cli), saved=run_dir)
    load_checkpoint(run_dir / "checkpoint", experiment.model, experiment.config["device"])
    experiment.model.eval()
    return experiment


def evaluate(run_dir: str | Path, cli: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Evaluate a saved run without training; write ``evaluation.json`` into its folder (or into ``output_dir``).

    Returns:
        Validation and test metrics: the same numbers as when the run ended.

    Raises:
        UserError: If the folder holds no finished run, or the data are not those that it was trained on.
    """
    run_dir = Path(run_dir).absolute()
    options = dict(cli or {})
    target = Path(options.pop("output_dir", None) or run_dir).absolute()
    with _output_folder(target, "evaluation.log", "INFO") as keep:
        experiment = load_experiment(run_dir, options)
        before = load_values(run_dir / RESULT)["split_sha256"] if (run_dir / RESULT).exists() else None
        if before and before != experiment.split_sha256:
            raise UserError(
                f"{run_dir}: the data set is not the one that the run was trained on (split {before[:12]}, now "
                f"{experiment.split_sha256[:12]}). Bring back the old files, or set data_path to them."
            )
        keep()
        valid, test = experiment.evaluate("valid"), experiment.evaluate("test")
        result = {
            "model": experiment.config["model"],
            "dataset": experiment.config["dataset"],
            "run": str(run_dir),
            "best_valid_result": valid,
            "test_result": test,
            "split_sha256": experiment.split_sha256,
            "evaluated_users_per_second": experiment.trainer.users_per_second,
        }
        write_json(target / EVALUATION, result)
        _log_result(result, target)
    return result


__all__ = ["Experiment", "build", "evaluate", "load_experiment", "metrics_table", "run"]
