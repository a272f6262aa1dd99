"""What the runs of a comparison left behind, read back and put together per model."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_lcrec.comparison.plan import Plan, Run
from recbole_lcrec.comparison.runner import RunOutcome
from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import RANKS, RESULT

REACH = 20
"""Length of the list at which recall is reported in addition to RecBole's metrics."""

_COMPARED = {"test_result": dict, "split_sha256": str, "seconds": dict, "parameters": dict, "memory": dict}
_RANKED = re.compile(r"(hit|ndcg|mrr|recall)@(\d+)")


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        seed: Its seed.
        result: What result.json holds.
        ranks: The rows of ranks.csv.gz; None for models that predict values and rank nothing.
        seconds: Seconds of training, with all stages before the last.
    """

    seed: int
    result: Mapping[str, Any]
    ranks: pd.DataFrame | None
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Return the test metrics: RecBole's own, then those that the ranks give in addition, then beyond accuracy."""
        found = {name.lower(): float(value) for name, value in self.result["test_result"].items()}
        if self.ranks is not None:
            for name in (f"mrr@{self.result['ranks']['list']}", f"recall@{REACH}"):
                if name not in found and (values := metric_of_ranks(self.ranks, name)) is not None:
                    found[name] = float(values.mean())
        return found | self.result.get("beyond_accuracy", {})


@dataclass(frozen=True)
class ModelResult:
    """One row of the leaderboard.

    Attributes:
        entry: What was run.
        runs: The runs that succeeded, in the order of the seeds.
        failures: Seed -> why the run failed.
    """

    entry: Entry
    runs: tuple[RunResult, ...]
    failures: Mapping[int, str]

    @property
    def label(self) -> str:
        """The model's name in the outputs."""
        return self.entry.label

    @property
    def status(self) -> str:
        """One of ok, failed, or how many of the runs succeeded."""
        if not self.failures:
            return "ok"
        total = len(self.runs) + len(self.failures)
        return f"{len(self.runs)} of {total} runs" if self.runs else "failed"

    def values(self) -> dict[str, list[float]]:
        """Return metric -> its value in each run."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            for name, value in run.metrics().items():
                found.setdefault(name, []).append(value)
        return found

    def costs(self) -> dict[str, float | None]:
        """Return the runs' mean minutes of training, users per second, parameters, MiB of memory and of GPU memory."""
        return {
            "minutes": _mean([run.seconds / 60 for run in self.runs]),
            "users_per_second": _mean([run.result["evaluated_users_per_second"] for run in self.runs]),
            "parameters": _mean([run.result["parameters"]["total"] for run in self.runs]),
            "memory_mib": _mean([run.result["memory"]["peak_mib"] for run in self.runs]),
            "gpu_memory_mib": _mean([run.result["memory"]["peak_gpu_mib"] for run in self.runs]),
        }


def load_run(folder: Path) -> dict[str, Any]:
    """Return what result.json of a run holds.

    Raises:
        UserError: If it cannot be read, or lacks what is compared.
    """
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        missing = [name for name in _COMPARED if not isinstance(result.get(name), _COMPARED[name])]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(folder / RESULT, error) from error
    return result


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({error}). Delete {path.parent} and start again.")


def collect(plan: Plan, outcomes: Sequence[RunOutcome]) -> list[ModelResult]:
    """Read the finished runs; one result per entry, in the plan's order."""
    results = []
    for entry in plan.entries:
        of_entry = [outcome for outcome in outcomes if outcome.run.entry is entry]
        runs = tuple(_run_result(outcome.run) for outcome in of_entry if not outcome.reason)
        results.append(ModelResult(entry, runs, {o.run.seed: o.reason for o in of_entry if o.reason}))
    return results


def _run_result(run: Run) -> RunResult:
    result = load_run(run.folder)
    seconds = 0.0
    for stage in run.stages:
        spent = load_run(stage.folder)["seconds"]
        seconds += sum(value for name, value in spent.items() if name not in ("test", "valid"))
    path = run.folder / RANKS
    return RunResult(run.seed, result, read_ranks(path) if path.is_file() else None, seconds)


def read_ranks(path: Path) -> pd.DataFrame:
    """Read ranks.csv.gz; tokens stay text, even those that look like numbers or like missing values.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        text = {name: str for name in header if name in ("user", "item", "wording") or name.startswith("top_")}
        return pd.read_csv(path, dtype=text, keep_default_na=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from error


def is_ranked(metric: str) -> bool:
    """Return whether a metric is a function of each user's rank."""
    return _RANKED.fullmatch(metric.lower()) is not None


def metric_of_ranks(ranks: pd.DataFrame, metric: str) -> np.ndarray | None:
    """Return a metric of each row: hit@k, recall@k (with one target the same), ndcg@k or mrr@k.

    Args:
        ranks: Columns ``rank`` and ``censored``.
        metric: Such as ndcg@10.

    Returns:
        float64 [rows]; None if k reaches beyond the known ranks, or for another metric.
    """
    found = _RANKED.fullmatch(metric.lower())
    if found is None:
        return None
    name, k = found[1], int(found[2])
    rank, censored = ranks["rank"].to_numpy(np.float64), ranks["censored"].to_numpy(bool)
    if (censored & (rank <= k)).any():
        return None
    gain = {"ndcg": 1.0 / np.log2(rank + 1.0), "mrr": 1.0 / rank}.get(name, np.ones_like(rank))
    return np.where(rank <= k, gain, 0.0)


def per_user(results: Sequence[ModelResult], metric: str) -> pd.DataFrame:
    """Return a metric of every user, averaged over the runs of a model (and over a user's rows within a run).

    Returns:
        Users (tokens, sorted) x labels; only models whose ranks reach as far as the metric.
    """
    columns = {}
    for result in results:
        runs: list[pd.Series] = []
        for run in result.runs:
            values = None if run.ranks is None else metric_of_ranks(run.ranks, metric)
            if values is None:
                runs = []
                break
            assert run.ranks is not None
            runs.append(pd.Series(values).groupby(run.ranks["user"].to_numpy()).mean())
        if runs:
            columns[result.label] = pd.concat(runs, axis=1).mean(axis=1)
    return pd.DataFrame(columns).sort_index()


def targets(results: Sequence[ModelResult]) -> pd.DataFrame | None:
    """Return what is known of each user apart from the ranks: history length and popularity of the target (means)."""
    for result in results:
        for run in result.runs:
            if run.ranks is not None:
                return run.ranks.groupby("user")[["history", "popularity"]].mean()
    return None


def ranked(results: Sequence[ModelResult]) -> list[ModelResult]:
    """Return the models whose runs all have ranks."""
    return [result for result in results if result.runs and all(run.ranks is not None for run in result.runs)]


def common_seeds(results: Sequence[ModelResult]) -> list[int]:
    """Return the seeds that all of these models have a run with, ascending."""
    seeds = [{run.seed for run in result.runs} for result in results]
    return sorted(set.intersection(*seeds)) if seeds else []


def of_seed(result: ModelResult, seed: int) -> pd.DataFrame:
    """Return the ranks of a run, one row per user and target."""
    ranks = next(run.ranks for run in result.runs if run.seed == seed)
    assert ranks is not None
    return ranks.drop_duplicates(["user", "item"])  # of several wordings, the first


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation, which is None for a single value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), std


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None
