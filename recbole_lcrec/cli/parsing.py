"""What a command line asks for: its ``--name=value`` arguments, with all mistakes reported at once."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_lcrec.comparison.ablation import parse_ablation
from recbole_lcrec.comparison.specs import (
    Cluster,
    Entry,
    is_comparison,
    parse_cluster,
    parse_entries,
    parse_jobs,
    parse_seeds,
    refuse_cluster,
)
from recbole_lcrec.config.domain import path_problem
from recbole_lcrec.config.loader import Given, load_values
from recbole_lcrec.config.names import is_model
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.plugins import load_installed
from recbole_lcrec.config.reading import Reading, check_names, read_arguments, read_files
from recbole_lcrec.config.saved_run import (
    EVALUATION_ONLY,
    check_changes,
    check_evaluation,
    read_options,
    read_result,
    saved_options,
)
from recbole_lcrec.distributed import group
from recbole_lcrec.distributed.request import OPTIONS, Processes, processes_of
from recbole_lcrec.export.export_command import parse_export
from recbole_lcrec.recommending.recommend_command import parse_recommendation, refuse_recommending
from recbole_lcrec.serving.serve_command import parse_serve, refuse_serving
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CONFIG, STARTING


@dataclass(frozen=True)
class Command:
    """What a command line asks for, checked as far as possible without torch.

    Attributes:
        model: Name of the model; empty when a saved run is evaluated.
        dataset: Name of the data set; likewise.
        config_files: YAML files, lowest precedence first.
        options: Checked values of the other arguments.
        evaluate: Folder of a saved run to evaluate, or None to train.
        entries: What is compared; empty for a single run.
        seeds: Seeds of a comparison.
        jobs: Simultaneous runs of a comparison; None for as many as the cluster has room for.
        cluster: Where the runs of a comparison are executed; None for this machine.
        resume: Folder of an interrupted run to resume, or None.
        search: Runs a search for hyper-parameters, new or resumed; None for no search.
        export: Exports a finished run; None for no export.
        serve: Serves saved runs; None for no server.
        recommend: Recommends with a finished run; None for no recommendations.
        processes: Processes that share a single run.
    """

    model: str = ""
    dataset: str = ""
    config_files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Path | None = None
    entries: tuple[Entry, ...] = ()
    seeds: tuple[int, ...] = ()
    jobs: int | None = 1
    cluster: Cluster | None = None
    resume: Path | None = None
    search: Callable[[], Any] | None = None
    export: Callable[[], Any] | None = None
    serve: Callable[[], None] | None = None
    recommend: Callable[[], Any] | None = None
    processes: Processes = Processes()


def parse(argv: Sequence[str]) -> Command:
    """Read and check a command line.

    Raises:
        UserError: One message for all mistakes in it.
    """
    reading = Reading()
    given = read_arguments(argv, reading)
    files = given.pop("config_files", None)
    config_files = _split_files(files, reading)
    load_installed()
    if "tune" in given or "resume_tune" in given:
        from recbole_lcrec.tuning.command import parse_search

        values = {name: one.value for name, one in given.items()}
        refuse_cluster(values, "a search has trials: use cpus_per_trial and gpus_per_trial", reading, searching=True)
        return Command(search=parse_search(given, config_files, reading))
    if "export" in given:
        return Command(export=parse_export(given if files is None else {**given, "config_files": files}, reading))
    if "recommend" in given or "serve" in given:
        asked = given if files is None else {**given, "config_files": files}
        if "serve" in given:
            return Command(serve=parse_serve(asked, reading))
        return Command(recommend=parse_recommendation(asked, reading))
    saved: dict[str, Given] = {name: given.pop(name) for name in ("evaluate", "resume") if name in given}
    options = reading.checked(given)
    refuse_serving(options, reading)
    if saved:
        return _on_saved_run(saved, {**options, **({} if files is None else {"config_files": files})}, reading)
    from_files = read_files(config_files, reading)
    reading.name_plugins(options)
    merged = {**load_values(properties_dir() / "overall.yaml"), **from_files, **options}
    _check_no_search(options, reading)
    refuse_recommending(options, reading)
    if is_comparison(merged):
        return _comparison(merged, {**from_files, **options}, reading)
    if merged["jobs"] not in (None, 1):
        reading.add(f"option jobs is {merged['jobs']}, but there is a single run. Give several models, or seeds.")
    refuse_cluster(merged, "there is a single run. Give several models, or seeds; or --tune for a search", reading)
    check_names(merged, reading)
    processes = Processes()
    with reading.caught():
        processes = _processes(merged)

    def check_whole() -> None:
        from recbole_lcrec.experiment.checks import checked_config

        checked_config(config_files=config_files, cli=options, reading=reading)

    reading.finish(check_whole if merged.get("dataset") and is_model(str(merged.get("model"))) else None)
    rest = {name: value for name, value in options.items() if name not in ("model", "dataset")}
    return Command(merged["model"], merged["dataset"], config_files, rest, processes=processes)


def _processes(options: Mapping[str, Any]) -> Processes:
    """Return the processes to start: no others in a process that torchrun or this program has started."""
    return Processes() if group.place_of(os.environ) is not None else processes_of(options)


def _same_processes(folder: Path, before: Mapping[str, Any], where: Mapping[str, Any]) -> Processes:
    """Return the processes to resume with: the run's original number, on one machine or on those that are given.

    Raises:
        UserError: For another number.
    """
    if group.place_of(os.environ) is not None:
        return Processes()
    began = before.get("world_size") or 1
    here = where.get("nproc", before.get("nproc") or 1)
    found = processes_of({**before, "nproc": here, "world_size": max(began, here), **where})
    if found.everywhere != began:
        raise UserError(
            f"--resume={folder}: the run began with {began} process(es), which split every batch and draw random "
            f"numbers of their own; {found.everywhere} would give other results. Leave nproc and world_size out."
        )
    return found


def _comparison(merged: Mapping[str, Any], given: Mapping[str, Any], reading: Reading) -> Command:
    """Return the command of a comparison; its options are those of the files and of the command line."""
    entries: tuple[Entry, ...] = ()
    if merged["ablation"] is not None:
        entries = parse_ablation(merged["ablation"], merged.get("model"), merged.get("dataset"), given, reading)
    elif merged.get("model"):
        entries = parse_entries(merged["model"], reading)
    else:
        reading.add("--model=NAME missing: seeds alone do not say what to run")
    if given.get("stage") == "index":
        reading.add("option stage is index, but a comparison compares test results: build indices one by one")
    seeds = parse_seeds(merged["seeds"], merged["seed"], reading)
    cluster = parse_cluster(merged, reading)
    jobs = parse_jobs(merged["jobs"], cluster)
    check_names(merged, reading, ("dataset",))
    if any(merged.get(name) not in (None, 1, -1) for name in ("nproc", "world_size")):
        reading.add("option nproc: the runs of a comparison take one process each. Use jobs for several runs at once")
    own = ("model", "dataset", "seed", "seeds", "jobs", "ablation", "address", "cpus_per_run", "gpus_per_run")
    rest = {name: value for name, value in given.items() if name not in own}

    known = [entry for entry in entries if is_model(entry.model)]

    def check_whole() -> None:
        from recbole_lcrec.comparison.plan import make_plan

        make_plan(merged["dataset"], known, seeds[:1], rest, jobs)

    reading.finish(check_whole if merged.get("dataset") and known else None)
    return Command(dataset=merged["dataset"], options=rest, entries=entries, seeds=seeds, jobs=jobs, cluster=cluster)


def _split_files(given: Given | None, reading: Reading) -> tuple[str, ...]:
    """Return the paths of ``config_files``.

    They are a YAML list (``[my options.yaml, b.yaml]``) or separated by blanks, as in RecBole; there, a path with
    blanks needs quotes. The path of a single existing file may have blanks without quotes.
    """
    if given is None or not given.text:
        return ()
    if given.problem is not None and given.text.lstrip().startswith("["):
        reading.add(f"the command line: option config_files is {given.text} (not valid YAML: {given.problem})")
        return ()
    if isinstance(given.value, list):
        if all(isinstance(name, str) for name in given.value):
            return tuple(given.value)
        reading.add(f"the command line: option config_files is {given.text}; expected a list of paths")
        return ()
    if path_problem(given.text) is None and os.path.isfile(given.text):
        return (given.text,)
    try:
        return tuple(shlex.split(given.text))
    except ValueError as error:
        reading.add(f"the command line: option config_files is {given.text}: {error}")
        return ()


def _on_saved_run(saved: Mapping[str, Given], options: dict[str, Any], reading: Reading) -> Command:
    """Return the command that takes model, data set and options from a run's folder."""
    name, given = next(iter(saved.items()))
    if len(saved) > 1:
        reading.add("the command line: --evaluate and --resume cannot go together")
    for option in ("model", "dataset", "config_files"):
        if option in options:
            reading.add(f"the command line: --{option} cannot go with --{name}, which takes it from the saved run")
    refuse_cluster(options, f"--{name} is about a single run", reading)
    folder = Path(given.text or "")
    if (problem := path_problem(given.text or "")) is not None:
        reading.add(f"the command line: --{name} is {problem}")
    elif name == "evaluate" and not (folder / CONFIG).is_file():
        reading.add(
            f"the command line: --evaluate={given.text} is not the folder of a finished run: "
            f"{folder / CONFIG} does not exist"
        )
    elif name == "evaluate":
        return _evaluation(folder, options, reading)
    reading.finish()
    where = {option: options.pop(option) for option in OPTIONS if option in options}
    check_changes(options)
    before = saved_options(folder)
    if read_result(folder) is not None and not (folder / STARTING).is_file():
        return Command(options=options, resume=folder)
    return Command(options=options, resume=folder, processes=_same_processes(folder, before, where))


def _evaluation(folder: Path, options: dict[str, Any], reading: Reading) -> Command:
    """Return the command that evaluates the run in a folder."""
    changes = {option: value for option, value in options.items() if option not in EVALUATION_ONLY}
    if changes:
        with reading.caught():
            check_evaluation(changes, read_options(folder / CONFIG))
    processes = Processes()
    with reading.caught():
        processes = _processes(options)

    def check_whole() -> None:
        from recbole_lcrec.experiment.building import saved_config

        kept = {option: value for option, value in options.items() if option in EVALUATION_ONLY}
        saved_config(folder, kept, reading=reading)

    reading.finish(check_whole)
    return Command(options=options, evaluate=folder, processes=processes)


def _check_no_search(options: Mapping[str, Any], reading: Reading) -> None:
    from recbole_lcrec.tuning.search_settings import tune_options

    for name in options:
        if name in tune_options() and name != "address":  # which comparisons have too
            reading.add(f"the command line: --{name} is an option of a search and has no effect without --tune")
