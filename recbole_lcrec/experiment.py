"""From a configuration to an experiment, and what can be done with one: run, load, evaluate, recommend.

``build`` is the one place where a configuration becomes data, model and trainer.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType, init_seed

from recbole_lcrec import arguments, factory, registry
from recbole_lcrec.checks import check_models, check_settings
from recbole_lcrec.compat import quiet
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.data.download import without_credentials
from recbole_lcrec.errors import UserError
from recbole_lcrec.evaluation import SEARCH, load_queries
from recbole_lcrec.io import write_json, write_text
from recbole_lcrec.outputs import (
    about_evaluation,
    log_result,
    metrics_table,
    output_folder,
    result_of,
    versions,
    wandb_in,
)
from recbole_lcrec.parallel import group
from recbole_lcrec.parallel.data import share_randomness
from recbole_lcrec.parallel.sharded import is_wanted
from recbole_lcrec.refusals import refusals_of_recbole
from recbole_lcrec.run_folder import check_assets, check_free, holds_training, note, note_all, seal
from recbole_lcrec.saved_run import (
    CHECKPOINT,
    CONFIG,
    EVALUATION,
    LOG,
    OF_EVALUATION,
    RANKS,
    RESULT,
    STARTING,
    check_evaluation,
    read_options,
    recorded_split,
)
from recbole_lcrec.split_loaders import Split, build_data, split_of
from recbole_lcrec.stages import StageTimer
from recbole_lcrec.training.ranks import RankCollector, Ranks, write_ranks

logger = logging.getLogger(__name__)


@dataclass
class Experiment:
    """A configuration with its data, model and trainer.

    Attributes:
        config: All options, resolved.
        dataset: The whole data set, filtered and remapped.
        train_data: Loader of the training phase; likewise ``valid_data`` (None without validation users) and
            ``test_data`` (None in the trials of a search, which must not see it).
        model: The model.
        trainer: The trainer; its files go to ``output_dir``.
        output_dir: Folder of the run.
        split_sha256: Names the split (see ``recbole_lcrec.data.split.split_sha256``).
        timer: Seconds per stage so far.
        by_prompt: Phase -> wording -> metrics, after an evaluation with several ``eval_prompts``.
        ranks: Rank of every test target, after an evaluation of the test phase that ranks.
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
    by_prompt: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    ranks: Ranks | None = None

    def fit(self, callback: Callable[[int, float, dict[str, float]], None] | None = None) -> dict[str, float] | None:
        """Train the model; return the best validation result (None without validation users).

        Args:
            callback: Called after every validation with epoch, score (of ``valid_metric``) and result. It may write
                the training's state with ``trainer.save_state(folder)``; ``trainer.resume_checkpoint(folder)`` before
                ``fit`` goes on from it.

        Raises:
            FloatingPointError: If the training diverges.
            UserError: If a package is missing, or the model has no epochs to call back after.
        """
        show = bool(self.config["show_progress"])
        options: dict[str, Any] = {"saved": True, "show_progress": show}
        if callback is not None:
            if not hasattr(self.trainer, "last_valid_result"):
                raise UserError(f"{self.config['model']} trains without epochs: there is nothing to call back after.")
            options["callback_fn"] = lambda epoch, score: callback(epoch, score, dict(self.trainer.last_valid_result))
        try:
            with self.timer("train"), quiet(), refusals_of_recbole(f"model {self.config['model']}"):
                if hasattr(self.trainer, "curve"):
                    self.trainer.curve.start()
                _, best = self.trainer.fit(self.train_data, self.valid_data, **options)
        except ImportError as error:  # NCL imports faiss only when it needs it
            raise registry.missing_package(self.config["model"], error) from error
        return None if best is None else dict(best)

    def describe(self) -> None:
        """Write what makes the output folder loadable later, beside the checkpoint: options, index, tokenizer."""
        write_config(self.config, self.output_dir)
        if hasattr(self.model, "save_assets"):
            self.model.save_assets(self.output_dir)
        seal(self.output_dir)

    def evaluate(self, phase: str = "test", *, load_best: bool = False) -> dict[str, float] | None:
        """Return the metrics of the "valid" or "test" phase; with ``load_best`` those of the best checkpoint.

        With several ``eval_prompts`` they are the mean over the wordings; ``by_prompt`` has those of each.
        """
        data = {"valid": self.valid_data, "test": self.test_data}[phase]
        if data is None:
            return None
        self.trainer.eval_collector.data_collect(self.train_data)
        show = bool(self.config["show_progress"])
        rounds = self.model.evaluation.rounds if registry.is_generative(self.config["model"]) else (None,)
        results = []
        self.trainer.ranks = collector = self._rank_collector() if phase == "test" else None
        with self.timer(phase), quiet():
            for number, prompts in enumerate(rounds):
                if prompts is not None:
                    self.model.prompts = prompts
                    if collector is not None:
                        collector.round = number
                        collector.wording = "+".join(map(str, prompts))
                best = load_best and number == 0
                results.append(dict(self.trainer.evaluate(data, load_best_model=best, show_progress=show)))
        if collector is not None:
            self.trainer.ranks, self.ranks = None, collector.collected()
        if len(results) == 1:
            return results[0]
        numbers = [prompts[0] for prompts in self.model.evaluation.rounds]
        self.model.prompts = (numbers[0],)
        self.by_prompt[phase] = {str(number): result for number, result in zip(numbers, results, strict=True)}
        return {name: sum(result[name] for result in results) / len(results) for name in results[0]}

    def _rank_collector(self) -> RankCollector:
        full = self.config["eval_args"]["mode"]["test"] == "full"  # sampled candidates are all scored
        beams = self.config["num_beams"] if full and registry.is_generative(self.config["model"]) else None
        return RankCollector(max(self.config["topk"]), beams)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, *, among: Sequence[str] | None = None
    ) -> tuple[list[list[str]], list[list[float]]]:
        """Recommend items for histories of item tokens; with ``exclude_history`` no item of a history.

        Args:
            histories: Item tokens (raw ids, as strings), oldest first; only the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer where there are not so many to choose from.
            among: Item tokens to choose from, such as new arrivals; None for the whole catalogue, which models that
                rank candidates (TALLRec, InstructRec) refuse.

        Returns:
            Item tokens and scores, best first, one list per history.

        Raises:
            UserError: For anything else than this, an empty history, an unknown item token, or a model that scores
                users and not histories.
        """
        k = arguments.whole_number("recommend: k", k)
        asked = arguments.item_lists("recommend: histories", histories)
        expected = "recommend: among: expected a non-empty list of item tokens"
        chosen = None if among is None else list(dict.fromkeys(arguments.item_list(expected, among)))
        self.model.eval()
        items: list[list[str]] = []
        scores: list[list[float]] = []
        step = max(int(self.config["eval_batch_size"]), 1) if registry.is_generative(self.config["model"]) else 256
        team = getattr(self.trainer, "team", None)
        with torch.no_grad(), team.evaluation() if team is not None else nullcontext():
            for start in range(0, len(asked), step):
                tokens, values = self._recommend_batch(asked[start : start + step], k, chosen)
                items += tokens
                scores += values
        return items, scores

    def add_items(
        self,
        titles: Mapping[str, str],
        descriptions: Mapping[str, str] | None = None,
        embeddings: np.ndarray | None = None,
    ) -> None:
        """Give new items paths of their own, so that ``recommend`` can name them; nothing is trained.

        Args:
            titles: New item tokens and their titles, which may be empty.
            descriptions: Their descriptions, where they have any.
            embeddings: float32 [len(titles), d], made as those of the index, in place of texts.

        Raises:
            UserError: For a model without an item index, or items that cannot be placed in it.
        """
        if not registry.is_generative(self.config["model"]):
            raise UserError(f"add_items: {self.config['model']} has no item index. Use a generative model.")
        titles = arguments.texts("add_items: titles", titles)
        descriptions = None if descriptions is None else arguments.texts("add_items: descriptions", descriptions)
        if not titles:
            return
        catalogue = self.model.catalogue
        device = str(self.config["device"])
        indexed = catalogue.indexed.add(titles, descriptions, embeddings, device=device)
        self.model.use_catalogue(catalogue.extended(indexed))

    def _recommend_batch(
        self, histories: list[list[str]], k: int, among: list[str] | None
    ) -> tuple[list[list[str]], list[list[float]]]:
        if hasattr(self.model, "recommend_rows"):
            from recbole_lcrec.index.catalogue import rows_of_items

            catalogue = self.model.catalogue
            chosen = None if among is None else rows_of_items(catalogue, among)
            rows, values = self.model.recommend_rows([rows_of_items(catalogue, h) for h in histories], k, chosen)
            return _lists(catalogue.text.items, rows, values)
        tokens = self.dataset.field2id_token[self.dataset.iid_field]
        scores = self.model.full_sort_predict(self._interaction(histories)).view(len(histories), -1).float()
        allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
        allowed[slice(1, None) if among is None else self._item_ids(among)] = True
        scores[:, ~allowed] = -torch.inf
        if self.config["exclude_history"]:
            for row, history in zip(scores, histories, strict=True):
                row[self._item_ids(history)] = -torch.inf
        best, ids = scores.topk(min(k, int(allowed.sum())), dim=1)
        return _lists(tokens, ids.cpu().numpy(), best.cpu().numpy())

    def _item_ids(self, items: Sequence[str]) -> list[int]:
        known = self.dataset.field2token_id[self.dataset.iid_field]
        unknown = [item for item in items if item not in known]
        if unknown:
            raise UserError(f"recommend: {len(unknown)} item(s) are not in the data set, e.g. {unknown[0]!r}.")
        return [int(known[item]) for item in items]

    def _interaction(self, histories: list[list[str]]) -> Interaction:
        """Return RecBole's form of histories of item tokens for its sequential models."""
        if self.config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
            raise UserError(
                f"recommend: {self.config['model']} scores users of the data set and has no use for histories. "
                "Use a sequential or generative model."
            )
        dataset, width = self.dataset, int(self.config["MAX_ITEM_LIST_LENGTH"])
        ids = torch.zeros(len(histories), width, dtype=torch.int64)
        lengths = torch.zeros(len(histories), dtype=torch.int64)
        for row, history in enumerate(histories):
            kept = self._item_ids(history)[-width:]
            ids[row, : len(kept)] = torch.tensor(kept)
            lengths[row] = len(kept)
        fields = {
            dataset.uid_field: torch.zeros(len(histories), dtype=torch.int64),
            dataset.iid_field + self.config["LIST_SUFFIX"]: ids,
            self.config["ITEM_LIST_LENGTH_FIELD"]: lengths,
        }
        return Interaction(fields).to(self.config["device"])


def _lists(
    tokens: Sequence[str] | np.ndarray, numbers: np.ndarray, scores: np.ndarray
) -> tuple[list[list[str]], list[list[float]]]:
    """Return tokens and scores of the places [B, k] that have an item, that is, a score above -inf."""
    found = [line > -np.inf for line in scores]
    kept = [line[is_one].tolist() for line, is_one in zip(numbers, found, strict=True)]
    values = [line[is_one].tolist() for line, is_one in zip(scores, found, strict=True)]
    return [[str(tokens[number]) for number in line] for line in kept], values


def build(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_files: str | Path | Sequence[str | Path] = (),
    cli: Mapping[str, Any] | None = None,
    *,
    config: LCRecConfig | None = None,
    saved: Path | None = None,
    split: Split | None = None,
    with_test: bool = True,
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
        split: What ``split_of`` returned for equal options of the data, instead of loading them again.
        with_test: Whether the experiment gets the loader of the test phase.

    Raises:
        UserError: For anything in the options or the data that the user has to change.
    """
    config = config or LCRecConfig(model, dataset, config_files, config_dict, cli)
    output_dir = saved or _output_dir(config)
    config["saved_run"] = str(saved) if saved else None
    check_settings(config)
    if saved is None:
        check_models(config)
    config["output_dir"] = str(output_dir)
    config["checkpoint_dir"] = str(output_dir)
    config["cache_dir"] = str(Path(config["cache_dir"]).absolute())
    timer = StageTimer()
    if config.without_use():
        names = ", ".join(config.without_use())
        logger.warning("%s has no use for these options, which are other models': %s.", config["model"], names)
    with quiet():
        data, train_data, valid_data, test_data, sha = build_data(config, timer, saved, split)
        if config["dataset_url"]:  # it has served; RecBole gives all options to tensorboard and wandb
            config["dataset_url"] = without_credentials(config["dataset_url"])
        init_seed(config["seed"], config["reproducibility"])
        with timer("model"):
            network = factory.make_model(config, train_data._dataset)
            if not is_wanted(config):  # FSDP brings it to the device in parts
                network = network.to(config["device"])
            if registry.is_generative(config["model"]) and network.evaluation.eval_task == SEARCH:
                loaders = [loader for loader in (valid_data, test_data) if loader is not None]
                network.queries = load_queries(config, data, [loader._dataset for loader in loaders])
            with refusals_of_recbole(f"model {config['model']}"), wandb_in(output_dir):
                trainer = factory.trainer_class(config)(config, network)
        share_randomness(config["seed"])
    test_data = test_data if with_test else None
    return Experiment(config, data, train_data, valid_data, test_data, network, trainer, output_dir, sha, timer)


def _output_dir(config: LCRecConfig) -> Path:
    """Return the folder of a run: the given one, or a new one that no other process has."""
    if config["output_dir"]:
        return group.from_main(Path(config["output_dir"]).absolute())
    name = f"{config['model']}-{config['dataset']}-{time.strftime('%Y%m%d-%H%M%S')}"
    return group.from_main(_new_folder(Path("saved", name).absolute()) if group.is_main() else None)


def _new_folder(folder: Path) -> Path:
    """Make a folder of this name, or of one with a number behind it: two runs may start in the same second."""
    for number in itertools.count(1):
        made = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            made.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"output_dir={made}: cannot be made ({error.strerror}). Choose another.") from error
        return made
    raise AssertionError("there is always a next number")


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
        config_dict: Options; they win over files.
        config_files: YAML files of options; later ones win over earlier ones.
        cli: Options that win over all others.

    Returns:
        What result.json holds, and ``output_dir``.

    Raises:
        UserError: For anything that the user has to change; nothing half-written stays behind.
    """
    config = LCRecConfig(model, dataset, config_files, config_dict, cli)
    check_settings(config)
    own_folder, output_dir = not config["output_dir"], _output_dir(config)
    config["output_dir"] = str(output_dir)
    try:
        with output_folder(output_dir, LOG, config["state"]) as keep:
            return run_in_folder(config, keep)
    finally:
        if own_folder and group.is_main():
            with suppress(OSError):  # not empty, as a rule
                output_dir.rmdir()


def run_in_folder(config: LCRecConfig, keep: Callable[[], None]) -> dict[str, Any]:
    """Do a whole run in its output folder; see ``run``.

    Args:
        config: The experiment's configuration, with ``output_dir``.
        keep: What ``output_folder`` yielded.
    """
    from recbole_lcrec.resuming import keep_states, write_facts

    output_dir = Path(config["output_dir"])
    if group.is_main():
        write_text(output_dir / STARTING, _yaml(config))  # all that is needed if the run is killed before it has begun
    if config["stage"] == "index":
        return _run_index(config, output_dir, keep)
    experiment = build(config=config)
    logger.info(experiment.model)
    keep_states(experiment)

    def begin() -> None:
        keep()
        if group.is_main():
            experiment.describe()
            write_facts(experiment)

    if hasattr(experiment.trainer, "before_writing") and holds_training(output_dir):
        logger.warning("%s holds an earlier run, which this one replaces when it has something to save.", output_dir)
        experiment.trainer.before_writing = begin
    else:
        begin()
    return finish(experiment)


def finish(experiment: Experiment, index: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Train, test and write the result; the training states are not needed any more then.

    Args:
        experiment: A new experiment, or one that goes on from a training state.
        index: What was known of the item index when it was built, if that was in an earlier process.
    """
    from recbole_lcrec.resuming import forget_states

    output_dir = experiment.output_dir
    best_valid = experiment.fit()
    if hasattr(experiment.trainer, "announce"):
        experiment.trainer.announce()
    test = experiment.evaluate("test", load_best=True)
    if experiment.ranks is not None:
        write_ranks(output_dir / RANKS, experiment.ranks, experiment)
    result = result_of(experiment, best_valid, test)
    result["index"] = dict(index) if index else result["index"]
    if not group.is_main():
        return {**result, "output_dir": str(output_dir)}
    write_json(output_dir / RESULT, result)
    forget_states(experiment)
    note_all(output_dir)
    log_result(result, output_dir)
    return {**result, "output_dir": str(output_dir)}


def _yaml(config: LCRecConfig) -> str:
    values = config.resolved()
    if values.get("dataset_url"):
        values["dataset_url"] = without_credentials(values["dataset_url"])
    return dump_values(values)


def write_config(config: LCRecConfig, output_dir: Path) -> None:
    """Write all options of a run that has got past its start."""
    if not group.is_main():
        return
    write_text(output_dir / CONFIG, _yaml(config))
    (output_dir / STARTING).unlink(missing_ok=True)


def _run_index(config: LCRecConfig, output_dir: Path, keep: Callable[[], None]) -> dict[str, Any]:
    """Build the item index alone: index.json, the quantizer and the quality report."""
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
            "model": config["model"],
            "dataset": config["dataset"],
            "seed": config["seed"],
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


def load_experiment(
    run_dir: str | Path, cli: Mapping[str, Any] | None = None, *, split: Split | None = None
) -> Experiment:
    """Load a finished run: its data, index, tokenizer and best weights.

    Args:
        run_dir: The run's output folder.
        cli: Options to change, such as ``data_path`` after the data were moved, or ``eval_batch_size``.
        split: What ``split_of`` returned for the run's options, instead of loading the data again.

    Raises:
        UserError: If the folder holds no finished run or its data are not there any more.
    """
    from recbole_lcrec.training.checkpoint import load_checkpoint

    run_dir, changes = Path(run_dir).absolute(), arguments.options("cli", cli)
    for name in (CONFIG, CHECKPOINT):
        if not (run_dir / name).exists():
            raise UserError(f"{run_dir} is not the folder of a finished run: it has no {name}. Give its output_dir.")
    check_assets(run_dir)
    # by how many processes it was trained is no matter now
    options = {**read_options(run_dir / CONFIG), "nproc": 1, "world_size": None}
    check_evaluation(changes, options)
    config = LCRecConfig(config_dict=options, cli=changes, has_data=split is not None)
    experiment = build(config=config, saved=run_dir, split=split)
    load_checkpoint(run_dir / CHECKPOINT, experiment.model, experiment.config["device"])
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
    options = arguments.options("cli", cli)
    target = Path(options.pop("output_dir", None) or run_dir).absolute()
    if target != run_dir and target.is_dir():
        check_free(target)
    with output_folder(target, OF_EVALUATION[1], "INFO") as keep:
        experiment = load_experiment(run_dir, options)
        before = recorded_split(run_dir)
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
            **about_evaluation(experiment),
            "split_sha256": experiment.split_sha256,
            "evaluated_users_per_second": experiment.trainer.users_per_second,
        }
        if group.is_main():
            write_json(target / EVALUATION, result)
            note(target, OF_EVALUATION, new=target != run_dir)
        log_result(result, target)
    return result


__all__ = ["Experiment", "build", "evaluate", "load_experiment", "metrics_table", "run"]
