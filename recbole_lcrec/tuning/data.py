"""What trials share: the data set is loaded once, embeddings and index are built once, before the first trial.

The loaded data set goes to the trials through Ray's object store, unless the space varies what it depends on.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec import registry
from recbole_lcrec.compat import quiet
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.errors import UserError
from recbole_lcrec.split_loaders import build_data, split_of
from recbole_lcrec.stages import StageTimer
from recbole_lcrec.parallel.cluster import import_ray
from recbole_lcrec.tuning.space import Space


@lru_cache(maxsize=1)
def data_options() -> frozenset[str]:
    """Return the options that loading and splitting a data set may read: those that the source of either names."""
    pattern = re.compile(r"""config\[\s*["']([\w-]+)["']\s*\]""")
    files = [*(recbole_dir() / "data" / "dataset").glob("*.py"), *(Path(__file__).parents[1] / "data").glob("*.py")]
    return frozenset(name for path in files for name in pattern.findall(path.read_text(encoding="utf-8")))


def share_data(config: LCRecConfig, space: Space, threads: int, timer: StageTimer) -> tuple[bytes | None, str]:
    """Load the data once, fill the caches of embeddings and index, and check that a search can validate.

    Args:
        config: The configuration without the space's values.
        space: What is varied.
        threads: Of a trial: what is cached may depend on them, and is only found again with as many.
        timer: Gets the seconds of each stage.

    Returns:
        The split, pickled, or None if the space varies what it depends on; and the split's name.

    Raises:
        UserError: For data that cannot be used, before any trial starts.
    """
    # the classes of RecBole's data sets are made on the fly: pickle cannot name them
    cloudpickle = import_ray().cloudpickle
    with quiet():
        split = split_of(config, timer)
    config_of = [(part, part.config) for part in (split[0], *split[1])]
    for part, _ in config_of:
        part.config = None  # every trial has its own
    shared = None if data_options() & set(space.names) else cloudpickle.dumps(split)
    for part, own in config_of:
        part.config = own
    with quiet(), _threads(threads):
        _, _, valid_data, _, sha = build_data(config, timer, split=split)
    if valid_data is None:
        raise UserError(
            f"{config['dataset']}: no user has the four interactions that validation needs, and a search compares "
            "trials by their validation. Use other data, or another split (eval_args)."
        )
    return shared, sha


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Give torch that many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_options_of_model(space: Space, config: LCRecConfig) -> None:
    """Refuse options that the model does not have: its trials would differ by nothing but their names.

    Raises:
        UserError: With the nearest option that it has.
    """
    import inspect

    from recbole_lcrec.errors import nearest

    known = set(config.final_config_dict)
    unknown = [name for name in space.names if name not in known]
    if unknown:
        source = inspect.getsource(inspect.getmodule(registry.model_class(config["model"])))  # type: ignore[arg-type]
        unknown = [name for name in unknown if f'config["{name}"]' not in source]
    if unknown:
        hints = "".join(f"\n  - {name}: no such option.{nearest(name, known)}" for name in unknown)
        raise UserError(f"{space.source}: model {config['model']} does not have what the space varies:{hints}")


def unpickled(shared: bytes) -> Any:
    """Return a data set of its own from what ``share_data`` made."""
    return pickle.loads(shared)
