"""What trials share: the data set is loaded once, text, embeddings and index are made once, before the first trial.

Each goes to the trials through Ray's object store, unless the space varies an option that it depends on. Which options
those are is found while the data are loaded: they are the ones that are read.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.config import LCRecConfig, registry
from recbole_lcrec.config.features import OPTIONS as FEATURE_OPTIONS
from recbole_lcrec.config.named_files import MODEL_PATHS
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed.cluster import import_ray
from recbole_lcrec.evaluation.queries import SEARCH
from recbole_lcrec.experiment.split_loaders import Split, make_loaders, prepare_data, split_of
from recbole_lcrec.model.interface import PreparesItems
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.utils.timer import StageTimer


@dataclass(frozen=True)
class SharedData:
    """What the search passes to its trials.

    Attributes:
        split: The data set with its split and all that was made from files for it, pickled; None if each trial loads
            its own.
        options: Options that follow from the data set's columns, for trials that may not see its files.
        sha256: The split's name.
        reads: Options through which trials still read files or the cache.
        varied: Options of the space that make them do so.
    """

    split: bytes | None
    options: Mapping[str, Any]
    sha256: str
    reads: frozenset[str]
    varied: tuple[str, ...]

    def unpickled(self) -> Split | None:
        """Return a trial's own copy of the data set; None if it is to load one."""
        return None if self.split is None else pickle.loads(self.split)


def share_data(config: LCRecConfig, space: Space, threads: int, timer: StageTimer) -> SharedData:
    """Load the data once, make text, embeddings and index once, and check that a search can validate.

    Args:
        config: The configuration without the space's values.
        space: What is varied.
        threads: Threads of a trial: what is made may depend on them.
        timer: Records the seconds of each stage.

    Raises:
        UserError: For data that cannot be used, before any trial starts.
    """
    run = RunOptions(config)
    varied = frozenset(space.names)
    with quiet(), config.reads() as looked_at:
        split = split_of(config, timer)
    with quiet(), _threads(threads):
        prepare_data(split, timer)
    made = (split[0].made if isinstance(split[0], PreparesItems) else None) or {}
    alone: dict[str, frozenset[str]] = {}
    for stage, (_, read, uses) in made.items():  # in the order in which they were made
        if read & varied or alone.keys() & set(uses):
            alone[stage] = read
    reads: set[str] = set().union(*alone.values())
    pickled = None
    if looked_at & varied:
        reads |= looked_at.union(*(options for _, options, _ in made.values()))
    else:
        pickled = _pickled(split, {stage: product for stage, product in made.items() if stage not in alone})
    if run.eval_task == SEARCH or "eval_task" in varied:
        reads.add("data_path")  # queries are read when an experiment is built
    with quiet():
        _, valid_data, _, sha = make_loaders(config, split)
    if valid_data is None:
        raise UserError(
            f"{run.dataset}: no user has the four interactions that validation needs, and a search compares "
            "trials by their validation. Use other data, or another split (eval_args)."
        )
    feature = FEATURE_OPTIONS.get(registry.base_of(run.model))
    chosen = [] if feature is None else [feature, "load_col"]
    options = {name: config[name] for name in chosen if name not in varied}
    return SharedData(pickled, options, sha, frozenset(reads) | MODEL_PATHS, tuple(sorted(varied & reads)))


def _pickled(split: Split, made: Mapping[str, Any]) -> bytes:
    """Return a split with what was made for it, without options and catalogue, which every trial has of its own."""
    data, parts = split
    everything = (data, *parts)
    own = [dict(vars(part)) for part in everything]
    try:
        for part in everything:
            part.config = None
            if "catalogue" in vars(part):
                part.catalogue = None
        if "made" in vars(data):
            data.made = dict(made)
        # the classes of RecBole's data sets are made on the fly: pickle cannot name them
        return import_ray().cloudpickle.dumps(split)
    finally:
        for part, attributes in zip(everything, own, strict=True):
            vars(part).update(attributes)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """While the block runs, give torch this many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
