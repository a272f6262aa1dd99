"""The runs of a comparison and their options, all of them checked before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.named_files import absolute_options
from recbole_lcrec.experiment.checks import checked_config
from recbole_lcrec.utils.errors import Mistakes, UserError
from recbole_lcrec.utils.files import fingerprint
from recbole_lcrec.utils.run_files import CONFIG, RESULT

RUNS = "runs"
STAGES = {"S3Rec": ("pretrain", "finetune"), "RaCT": ("actor_pretrain", "critic_pretrain", "finetune")}
"""Models of RecBole trained in stages -> values of ``train_stage``; each starts with the weights of the one before."""

_NO_MATTER = (
    *("output_dir", "checkpoint_dir", "cache_dir", "saved_run", "show_progress", "state", "logger", "log_wandb"),
    "sized_by_data",
    *("seeds", "jobs", "ablation", "address", "cpus_per_run", "gpus_per_run"),
)
"""Options that change no result: a finished run is kept even if they were different."""


@dataclass(frozen=True)
class Stage:
    """One process: a training with its evaluation.

    Attributes:
        folder: Its output folder.
        options: What the process is given; paths are absolute, so that it may be started in any folder.
        resolved: All its options, as the process will write them to config.yaml.
    """

    folder: Path
    options: Mapping[str, Any]
    resolved: Mapping[str, Any]

    def is_finished(self) -> bool:
        """Whether the folder holds the result of exactly these options."""
        return (self.folder / RESULT).is_file() and not self.changes()

    def changes(self) -> list[str]:
        """Return the options in which an existing run differs, [] if there is none."""
        try:
            saved = load_values(self.folder / CONFIG)
        except UserError:
            return []
        followed = set(saved.get("sized_by_data") or [])  # from the same data: a run's sizes are those that ~ asks for
        saved, wanted = _plain(saved), _plain(self.resolved)
        names = {name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)}
        return sorted(name for name in names if not (name in followed and wanted.get(name) in (None, "auto")))


@dataclass(frozen=True)
class Run:
    """One model with one seed; a model with a pre-training has several stages, of which the last one is tested."""

    entry: Entry
    seed: int
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """Label and seed, for the log."""
        return f"{self.entry.label}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the result is."""
        return self.stages[-1].folder


@dataclass(frozen=True)
class Plan:
    """A whole comparison.

    Attributes:
        dataset: Name of the data set.
        entries: What is compared, in the order given.
        seeds: Every entry is run once with each.
        options: What all runs share, as given.
        jobs: Runs at once; None for as many as a cluster has room for.
        output_dir: Folder of the comparison.
        runs: All runs, in the order in which they start: the first seed of every entry comes first.
    """

    dataset: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Any]
    jobs: int | None
    output_dir: Path
    runs: tuple[Run, ...]


def make_plan(
    dataset: str, entries: Sequence[Entry], seeds: Sequence[int], options: Mapping[str, Any], jobs: int | None
) -> Plan:
    """Resolve and check the options of every run.

    Args:
        dataset: Name of the data set.
        entries: What is compared.
        seeds: Seeds of the runs.
        options: What all runs share, from files and command line; ``output_dir`` is that of the comparison.
        jobs: Runs at once; None for as many as a cluster has room for.

    Raises:
        UserError: One message with the mistakes of all entries.
    """
    shared = {"show_progress": False, **options}
    given = shared.pop("output_dir", None)
    key = fingerprint(dataset, [(e.label, e.model, dict(e.options)) for e in entries], list(seeds), shared)
    # named by its contents, so that the same command finds what it has finished already
    output_dir = Path(given or Path("saved") / f"compare-{dataset}-{key[:8]}").absolute()
    told: dict[str, dict[str, None]] = {}  # mistake -> the entries that have it
    runs = []
    for seed in seeds:
        for entry in entries:
            folder = output_dir / RUNS / f"{entry.folder}-{seed}"
            try:
                runs.append(Run(entry, seed, _stages(dataset, entry, {**shared, "seed": seed}, folder)))
            except UserError as error:
                for mistake in error.mistakes:
                    told.setdefault(mistake, {})[entry.label] = None
    mistakes = Mistakes()
    for mistake, labels in told.items():
        shared_by_all = len(labels) == len(entries) > 1
        mistakes.add(mistake if shared_by_all else f"{', '.join(labels)}: {mistake}")
    mistakes.finish()
    return Plan(dataset, tuple(entries), tuple(seeds), shared, jobs, output_dir, tuple(runs))


def _stages(dataset: str, entry: Entry, shared: Mapping[str, Any], folder: Path) -> tuple[Stage, ...]:
    options = {**shared, **entry.options, "model": entry.model, "dataset": dataset}
    names = STAGES.get(entry.model, ())
    if not names or options.get("train_stage") is not None or options.get("pre_model_path"):
        return (_stage(options, folder),)
    stages: list[Stage] = []
    weights = ""
    for name in names:
        last = name == names[-1]
        own = {"train_stage": name, **({"pre_model_path": weights} if weights else {})}
        stage = _stage({**options, **own}, folder if last else folder / name)
        weights = str(stage.folder / f"{entry.model}-{dataset}-{stage.resolved['pretrain_epochs']}.pth")
        stages.append(stage)
    return tuple(stages)


def _stage(options: dict[str, Any], folder: Path) -> Stage:
    options = {**options, "output_dir": str(folder)}
    config = checked_config(cli=options)
    return Stage(folder, absolute_options(options), config.resolved())


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved options that matter, as read back from a YAML file."""
    kept = {name: value for name, value in options.items() if name not in _NO_MATTER}
    return yaml.safe_load(yaml.safe_dump(kept, allow_unicode=True))
