"""The options of a search, and which of them go together; checked without torch and Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.settings import StageSettings, settings_from
from recbole_lcrec.utils.errors import Mistakes, UserError

DEFAULT_SAMPLES, MOST_SAMPLES = 10, 1000


@dataclass(frozen=True)
class SearchSettings(StageSettings):
    """Options of a search; each is explained in properties/tune.yaml."""

    scheduler: str
    search_alg: str
    num_samples: int | None
    time_budget_s: float | None
    cpus_per_trial: float
    gpus_per_trial: float | None
    max_concurrent: int | None
    trial_retries: int
    asha_grace: int | None
    asha_reduction: float
    pbt_interval: int
    address: str | None
    dashboard: bool
    storage_path: str | None

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        gpus = self.gpus_per_trial
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            mistakes.add(
                f"option gpus_per_trial is {gpus}; expected a part of one GPU (such as 0.5) or a whole number"
            )
        for message in self._combination():
            mistakes.add(message)

    def _combination(self) -> list[str]:
        """Say which options contradict each other (the table in docs/tuning.md)."""
        messages = []
        if self.scheduler == "pbt" and self.search_alg == "hyperopt":
            messages.append(
                "scheduler pbt does not go with search_alg hyperopt: pbt changes the values while trials run, so that "
                "a result belongs to no single configuration. Use search_alg random or grid, or scheduler asha"
            )
        if self.scheduler == "pbt" and self.num_samples == 1:
            messages.append("scheduler pbt needs a population: set num_samples to 2 or more (10 is usual)")
        if self.search_alg == "grid" and self.num_samples is not None:
            messages.append(
                "search_alg grid tries every combination, so num_samples does not go with it. Leave num_samples out, "
                "or use search_alg random"
            )
        if self.dashboard and self.address:
            messages.append(
                "dashboard does not go with address: a cluster that runs already has its own, or none. Start it with "
                "ray start --include-dashboard"
            )
        return messages

    @property
    def threads(self) -> int:
        """Threads of a trial: its CPUs, at least one."""
        return max(int(self.cpus_per_trial), 1)

    @property
    def samples(self) -> int:
        """Configurations to draw (random and hyperopt)."""
        if self.num_samples is not None:
            return self.num_samples
        return MOST_SAMPLES if self.time_budget_s is not None and self.scheduler != "pbt" else DEFAULT_SAMPLES


@lru_cache(maxsize=1)
def tune_options() -> dict[str, Any]:
    """Return the options of a search and their defaults; it shares ``address`` with comparisons."""
    return {**load_values(properties_dir() / "tune.yaml"), "address": None}


def read_settings(given: Mapping[str, Any]) -> SearchSettings:
    """Return the settings of a search.

    Args:
        given: Checked options; those that do not belong to a search are ignored.

    Raises:
        UserError: For values out of range and options that do not go together, all of them in one message.
    """
    return settings_from(SearchSettings, {**tune_options(), **given})


def space_file(model: str, given: str | None) -> Path:
    """Return the file with the search space: the one given (a path, or a name in properties/hyper), or the model's.

    Raises:
        UserError: If none is given, and the model has no such file.
    """
    folder = properties_dir() / "hyper"
    if given:
        named = folder / f"{given}.yaml"
        return named if named.is_file() and not Path(given).exists() else Path(given)
    path = folder / f"{model}.yaml"
    if not path.is_file():
        have = ", ".join(sorted(known.stem for known in folder.glob("*.yaml")))
        raise UserError(
            f"there is no search space for model {model} (there is one for {have}). Write a file such as\n"
            "  learning_rate: {loguniform: [1.0e-4, 1.0e-2]}\n"
            "  train_batch_size: {choice: [256, 1024]}\n"
            "and give it as --tune=space.yaml."
        )
    return path
