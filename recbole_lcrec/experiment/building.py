"""From a configuration to an experiment, new or of a saved run: here data, model and trainer are made."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.saved_run import check_evaluation, read_options
from recbole_lcrec.data.download import without_credentials
from recbole_lcrec.distributed import group
from recbole_lcrec.distributed.data import share_randomness
from recbole_lcrec.distributed.group import wants_fsdp
from recbole_lcrec.evaluation.queries import SEARCH, load_queries
from recbole_lcrec.experiment import factory
from recbole_lcrec.experiment.checks import check_models, checked_config
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.experiment.refusals import refusals_of_recbole
from recbole_lcrec.experiment.split_loaders import Split, build_data
from recbole_lcrec.model.interface import KeepsApart, NestsSamples, UsesQueries
from recbole_lcrec.training.checkpoint import load_checkpoint
from recbole_lcrec.training.measuring import measured, unmeasured
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.recbole_patches import quiet, same_anomaly_detection
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG
from recbole_lcrec.utils.run_folder import check_assets
from recbole_lcrec.utils.timer import StageTimer

logger = logging.getLogger(__name__)


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
        config_dict: Options; they override files.
        config_files: YAML files of options; later ones override earlier ones.
        cli: Options that override all others.
        config: A configuration of ``checked_config`` instead of all the above.
        saved: Folder of a finished run whose index and tokenizer are loaded.
        split: What ``split_of`` returned for equal options of the data, instead of loading them again.
        with_test: Whether the experiment gets the loader of the test phase.

    Raises:
        UserError: For anything in the options or the data that the user has to correct.
    """
    config = config or checked_config(model, dataset, config_files, config_dict, cli, saved=saved)
    run = RunOptions(config)
    output_dir = saved or output_dir_of(config)
    config["saved_run"] = str(saved) if saved else None
    if saved is None:
        check_models(config)
    config["output_dir"] = config["checkpoint_dir"] = str(output_dir)
    config["cache_dir"] = str(Path(run.cache_dir).absolute())
    timer = StageTimer()
    if config.without_use():
        names = ", ".join(config.without_use())
        logger.warning("%s ignores these options, which belong to other models: %s.", run.model, names)
    with quiet(), same_anomaly_detection():
        data, train_data, valid_data, test_data, sha = build_data(config, timer, saved, split)
        if run.dataset_url:  # no longer needed, and loggers get all options
            config["dataset_url"] = without_credentials(run.dataset_url)
        init_seed(run.seed, run.reproducibility)
        with timer("model"):
            network = factory.make_model(config, train_data._dataset)
            if not wants_fsdp(config):  # FSDP brings it to the device in parts
                network = network.to(run.device)
            if isinstance(network, UsesQueries) and run.eval_task == SEARCH:
                loaders = [loader for loader in (valid_data, test_data) if loader is not None]
                network.use_queries(load_queries(config, data, [loader._dataset for loader in loaders]))
            with refusals_of_recbole(f"model {run.model}"):
                trainer = factory.trainer_class(config)(config, network)
        _fit_loader(train_data, network)
        _measure(config, trainer, train_data, timer)
        share_randomness(run.seed)
    _warn_of_anomaly_detection()
    test_data = test_data if with_test else None
    return Experiment(config, data, train_data, valid_data, test_data, network, trainer, output_dir, sha, timer)


def _warn_of_anomaly_detection() -> None:
    if torch.is_anomaly_enabled():
        logger.warning(
            "Autograd's anomaly detection is on, which costs a fifth of the time. Importing RecBole's SINE, or all of "
            "its models, switches it on; torch.autograd.set_detect_anomaly(False) switches it off."
        )


def _fit_loader(train_data: Any, network: Any) -> None:
    """Keep samples in separate rows for a model that would mix those of one row."""
    keeps_apart = isinstance(network, KeepsApart) and network.keeps_apart
    if isinstance(train_data, NestsSamples) and train_data.nests and not keeps_apart:
        logger.info("nest_histories: %s cannot keep samples in one row apart.", type(network).__name__)
        train_data.nests = False


def _measure(config: LCRecConfig, trainer: Any, train_data: Any, timer: StageTimer) -> None:
    """Give options that are ``auto`` the values that are fastest here; the configuration keeps them."""
    if not unmeasured(config) or not isinstance(trainer, FeatureTrainer):
        return
    with timer("measure"):
        chosen = measured(trainer, train_data, config)
    for name, value in chosen.items():
        config[name] = value
    config["sized_by_data"] = sorted({*config["sized_by_data"], *chosen})


def output_dir_of(config: LCRecConfig) -> Path:
    """Return the folder of a run: the given one, or a new one of its own."""
    run = RunOptions(config)
    if run.output_dir:
        return group.from_main(Path(run.output_dir).absolute())
    name = f"{run.model}-{run.dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    return group.from_main(_new_folder(Path("saved", name).absolute()) if group.is_main() else None)


def _new_folder(folder: Path) -> Path:
    """Make a folder of this name, or with a number appended: two runs may start in the same second."""
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


def load_experiment(
    run_dir: str | Path, cli: Mapping[str, Any] | None = None, *, split: Split | None = None
) -> Experiment:
    """Load a finished run: its data, index, tokenizer and best weights.

    Args:
        run_dir: The run's output folder.
        cli: Options to change, such as ``data_path`` after moving the data, or ``eval_batch_size``.
        split: What ``split_of`` returned for the run's options, instead of loading the data again.

    Raises:
        UserError: If the folder holds no finished run or its data are no longer there.
    """
    run_dir = Path(run_dir).absolute()
    for name in (CONFIG, CHECKPOINT):
        if not (run_dir / name).exists():
            raise UserError(f"{run_dir} is not the folder of a finished run: it has no {name}. Give its output_dir.")
    check_assets(run_dir)
    config = saved_config(run_dir, arguments.options("cli", cli), has_data=split is not None)
    experiment = build(config=config, saved=run_dir, split=split)
    load_checkpoint(run_dir / CHECKPOINT, experiment.model, RunOptions(experiment.config).device)
    experiment.model.eval()
    return experiment


def saved_config(
    run_dir: Path, changes: Mapping[str, Any], *, has_data: bool = False, reading: Reading | None = None
) -> LCRecConfig:
    """Return the configuration of a finished run with some options changed, fully checked.

    Args:
        run_dir: The run's output folder.
        changes: Options to change.
        has_data: Whether its data set has been loaded already.
        reading: Collects the mistakes; without one, they are raised.

    Raises:
        UserError: If config.yaml is incomplete, or options cannot be changed or are wrong.
    """
    # the number of processes that trained it does not matter for loading
    options = {**read_options(run_dir / CONFIG), "nproc": 1, "world_size": None}
    noted = Reading() if reading is None else reading
    with noted.caught():
        check_evaluation(changes, options)
    config = checked_config(config_dict=options, cli=changes, has_data=has_data, saved=run_dir, reading=noted)
    if reading is None:
        noted.finish()
    return config
