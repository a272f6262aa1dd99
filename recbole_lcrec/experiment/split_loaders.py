"""The data part of an experiment: one data set, one split, and a loader for each of its parts, for every model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType, init_seed

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.sizing import DataSize
from recbole_lcrec.data.fetch import fetch_dataset
from recbole_lcrec.data.seen import excluded_targets, seen_before, with_seen
from recbole_lcrec.data.split import sample_users, split_sha256
from recbole_lcrec.distributed import group
from recbole_lcrec.distributed.data import balanced
from recbole_lcrec.experiment import factory
from recbole_lcrec.experiment.refusals import refusals_of_recbole
from recbole_lcrec.index.catalogue import Catalogue
from recbole_lcrec.model.interface import PreparesCatalogue, PreparesItems
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import fingerprint
from recbole_lcrec.utils.recbole_patches import restore_numpy_names, restore_scipy_names
from recbole_lcrec.utils.timer import StageTimer

logger = logging.getLogger(__name__)

Split = tuple[Any, Sequence[Any]]
"""A data set with the parts of its split: training, validation, test."""


def build_data(
    config: LCRecConfig, timer: StageTimer, saved: Path | None = None, split: Split | None = None
) -> tuple[Any, Any, Any, Any, str]:
    """Make the data part of an experiment: data set, the loaders of the three phases, and the split's hash.

    Args:
        config: The experiment's configuration.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run whose index and tokenizer to use, or None.
        split: What ``split_of`` returned for equal options of the data, instead of loading them again.
    """
    run = RunOptions(config)
    data, parts = split or split_of(config, timer)
    if split:
        restore_numpy_names()
        restore_scipy_names()
        init_seed(run.seed, run.reproducibility)
        for part in (data, *parts):
            part.config, part.dataset_path = config, run.data_path
    size_by_data(config, (data, parts))
    prepare_data((data, parts), timer, saved)
    with timer("data"), refusals_of_recbole(f"data set {run.dataset}"):
        loaders = make_loaders(config, (data, parts))
    catalogue = data.catalogue if isinstance(data, PreparesCatalogue) else None
    paths = catalogue.paths if isinstance(catalogue, Catalogue) else None
    group.agreed("data set and item index", (loaders[-1], fingerprint([paths])))
    return (data, *loaders)


def size_by_data(config: LCRecConfig, split: Split) -> None:
    """Set the options that depend on the size of the data, and log their values."""
    if not config.unsized:
        return
    data, (train, *_) = split
    users, counts = np.unique(train.inter_feat[train.uid_field].numpy(), return_counts=True)
    windows = np.ceil(counts / RunOptions(config).max_history)
    samples = int(windows.sum()) if config["history_windows"] else len(train.inter_feat)
    size = DataSize(data.item_num - 1, len(train.inter_feat), samples)
    chosen = config.size_by(size)
    logger.info(
        "Sizes for %d items and %d training interactions of %d users: %s.",
        size.items, size.interactions, len(users), ", ".join(f"{name} {value}" for name, value in chosen.items()),
    )  # fmt: skip


def prepare_data(split: Split, timer: StageTimer, saved: Path | None = None) -> None:
    """Add text, index and prompts to the data of a model of ours; those of other models stay as they are.

    Args:
        split: What ``split_of`` returned.
        timer: Gets the seconds of each stage.
        saved: Folder of a finished run whose index and tokenizer to use, or None.
    """
    data, parts = split
    if isinstance(data, PreparesItems):
        with group.main_first():  # the others find text, embeddings and index in the cache
            data.prepare(timer, parts, saved)


def split_of(config: LCRecConfig, timer: StageTimer) -> Split:
    """Load the data set and return it with the parts of its split: training, validation, test."""
    run = RunOptions(config)
    restore_numpy_names()
    restore_scipy_names()
    init_seed(run.seed, run.reproducibility)
    with group.main_first():
        fetch_dataset(config)
    with timer("data"), refusals_of_recbole(f"data set {run.dataset}"):
        data = factory.dataset_class(config)(config)
        logger.info(_described(data))
        train, valid, test = data.build()
    for phase, part, least in (("training", train, 2), ("test", test, 3)):
        if not len(part.inter_feat):
            raise UserError(
                f"{data.dataset_name}: no user is left for the {phase} part. {_what_is_short(config, least)}"
            )
    return data, (train, valid, test)


def _described(data: Any) -> str:
    """Describe a data set in one line; RecBole counts its padding as a user and an item."""
    users, items = data.inter_feat[data.uid_field], data.inter_feat[data.iid_field]
    n_users, n_items, n_inter = len(np.unique(users)), len(np.unique(items)), len(users)
    more = max(data.item_num - 1 - n_items, 0)  # of the .item file
    dense = n_inter / max(n_users * n_items, 1)
    others = f" (and {more:,} without interactions)" if more else ""
    return (
        f"{data.dataset_name}: {n_users:,} users, {n_items:,} items{others}, "
        f"{n_inter:,} interactions ({n_inter / max(n_users, 1):.1f} per user, {dense:.2%} of all pairs); "
        f"columns {', '.join(data.inter_feat.columns)}"
    )


def _what_is_short(config: LCRecConfig, least: int) -> str:
    """Say why a part of the split is empty: histories are too short, or the split gives it nothing."""
    run = RunOptions(config)
    split = run.eval_args["split"]
    if split == {"LS": "valid_and_test"} or run.benchmark_filename is not None:
        return f"The split needs users with at least {least} interactions; loosen the filters or bring more data."
    return (
        f"The split is {split}, and every run ends with a test: set it to {{'LS': valid_and_test}}, "
        "{'LS': test_only} or shares such as {'RS': [0.8, 0.1, 0.1]} that leave something for each part."
    )


def make_loaders(config: LCRecConfig, split: Split) -> tuple[Any, Any, Any, str]:
    """Return the loaders of the three parts of the split (None without validation users), and the split's hash."""
    run = RunOptions(config)
    data, parts = split
    train, valid, test = parts
    sha = split_sha256(train, valid, test)
    # from whole parts: the loaders sort them, and users are sampled for validation
    seen = {phase: seen_before(phase, parts) for phase in ("valid", "test") if run.exclude_history}
    train_sampler, valid_sampler, test_sampler = create_samplers(config, data, list(parts))
    samplers = [train_sampler]
    if run.model_type == ModelType.KNOWLEDGE:
        negatives = run.train_neg_sample_args
        samplers.append(KGSampler(data, negatives["distribution"], negatives["alpha"]))
    train_data = factory.train_loader_class(config)(config, train, *samplers, shuffle=run.shuffle)
    valid_data = None
    if len(valid.inter_feat):
        valid = sample_users(valid, run.valid_users, run.seed)
        with balanced(config, len(valid)):
            loader_class = with_seen(get_dataloader(config, "valid"))
            valid_data = loader_class(config, valid, valid_sampler, shuffle=False, seen=seen.get("valid"))
    else:
        logger.warning("No user has the four interactions that validation needs: training runs for all its epochs.")
    with balanced(config, len(test)):
        loader_class = with_seen(get_dataloader(config, "test"))
        test_data = loader_class(config, test, test_sampler, shuffle=False, seen=seen.get("test"))
    for phase, loader in (("valid", valid_data), ("test", test_data)):
        if seen and loader is not None:
            logger.info(
                "exclude_history: %d of %d %s targets are in their user's history and count as misses.",
                *excluded_targets(loader), phase,
            )  # fmt: skip
    logger.info("Split %s: %d training, %d validation, %d test rows.", sha[:12], *(len(p.inter_feat) for p in parts))
    return train_data, valid_data, test_data, sha
