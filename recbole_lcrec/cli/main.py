"""The command line: read ``--name=value`` arguments, answer mistakes within a second, start the experiment.

Everything that can be checked without torch is checked before torch is imported.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
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
from recbole_lcrec.config.overview import help_text
from recbole_lcrec.config.paths import properties_dir, recbole_dir
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
from recbole_lcrec.training.interruption import Interrupted, Terminated, watched
from recbole_lcrec.utils.allocator import keep_freed_memory
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CONFIG, RESULT, STARTING
from recbole_lcrec.utils.streams import LastingStream, lasting, printable


@dataclass(frozen=True)
class Command:
    """What a command line asks for, checked as far as that is possible without torch.

    Attributes:
        model: Name of the model; empty when a saved run is evaluated.
        dataset: Name of the data set; likewise.
        config_files: YAML files, lowest first.
        options: Checked values of the other arguments.
        evaluate: Folder of a saved run to evaluate, or None to train.
        entries: What is compared; empty for a single run.
        seeds: Seeds of a comparison.
        jobs: Runs of a comparison at once; None for as many as the cluster has room for.
        cluster: Where the runs of a comparison are carried out; None for this machine.
        resume: Folder of an interrupted run to go on with, or None.
        search: A search for hyper-parameters, new or resumed, or None.
        export: What exports a finished run, or None.
        serve: A server of saved runs, or None.
        recommend: Recommendations with a finished run, or None.
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
        UserError: One message for everything that is wrong with it.
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
    """Return the processes to start; processes that torchrun or this program started start no others."""
    return Processes() if group.place_of(os.environ) is not None else processes_of(options)


def _same_processes(folder: Path, before: Mapping[str, Any], where: Mapping[str, Any]) -> Processes:
    """Return the processes to go on with: as many as the run began with, on one machine or on those that are given.

    Raises:
        UserError: For another number of them.
    """
    if group.place_of(os.environ) is not None:
        return Processes()
    began = before.get("world_size") or 1
    here = where.get("nproc", before.get("nproc") or 1)
    found = processes_of({**before, "nproc": here, "world_size": max(began, here), **where})
    if found.everywhere != began:
        raise UserError(
            f"--resume={folder}: the run began with {began} process(es), which share every batch and draw at random "
            f"each by itself; {found.everywhere} would end elsewhere. Leave nproc and world_size out."
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
        reading.add("option stage is index, but a comparison is about results of tests: build indices one by one")
    seeds = parse_seeds(merged["seeds"], merged["seed"], reading)
    cluster = parse_cluster(merged, reading)
    jobs = parse_jobs(merged["jobs"], cluster, reading)
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

    They stand in a YAML list (``[my options.yaml, b.yaml]``) or with blanks between them, as RecBole has it; there,
    quotes keep a path with blanks together. The path of a single file may have blanks without more ado.
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


def start(command: Command) -> int:
    """Carry out a command and return its exit status; this is where torch and RecBole are imported."""
    if (work := command.search or command.recommend or command.serve) is not None:
        work()
        return 0
    if command.export is not None:
        command.export()
        return 0
    if command.entries:
        from recbole_lcrec.comparison.command import compare

        return compare(command.dataset, command.entries, command.seeds, command.options, command.jobs, command.cluster)
    from recbole_lcrec import experiment

    if command.resume is not None:
        from recbole_lcrec.experiment import resuming

        resuming.resume(command.resume, cli=dict(command.options))
        return 0
    if command.evaluate is not None:
        experiment.evaluate(command.evaluate, cli=dict(command.options))
        return 0
    experiment.run(
        model=command.model,
        dataset=command.dataset,
        config_files=list(command.config_files),
        cli=dict(command.options),
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0, 1 when training diverged or a run of a comparison failed, 2 after a mistake the user can
        fix or on a full disk, 130 when interrupted and 143 when asked to end (SIGTERM).
    """
    argv = sys.argv[1:] if argv is None else argv
    with lasting():
        try:
            os.getcwd()
        except OSError:
            return _failed(2, "error: the working directory does not exist any more. Change into one that does.")
        # Waiting threads must not spin: on a machine that others use too, spinning makes everything ten times slower.
        # Read by OpenMP when torch is imported, so it is set before.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        keep_freed_memory()
        return _run(argv)


def _help_topic(argv: Sequence[str]) -> str | None:
    """Return the topic that help is asked on, "" for all of them; None if no help is asked."""
    asked = (argument.partition("=") for argument in argv)
    return next((topic for name, _, topic in asked if name in ("--help", "-h")), None)


def _print_help(topic: str) -> int:
    print(help_text(topic), flush=True)
    problem = sys.stdout.problem if isinstance(sys.stdout, LastingStream) else None
    return 0 if problem is None else _failed(2, f"error: standard output cannot be written: {problem}.")


def _run(argv: Sequence[str]) -> int:
    """Parse and carry out a command line; return the exit status."""
    try:
        recbole_dir()  # missing or too old: everything else would say so in its own way
        if (topic := _help_topic(argv)) is not None:
            load_installed()
            return _print_help(topic)
        mine = group.place_of(os.environ)
        if mine is not None:  # before torch is loaded: its remarks about unused parameters are of no use
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        command = parse(argv)
        if command.processes.several and mine is None:
            from recbole_lcrec.distributed.launch import launch

            return launch(argv, command.processes)
        own = command.entries or command.search  # they end their own processes first
        if own and mine is not None:
            raise UserError("comparisons and searches start their own processes: run them without torchrun.")
        with nullcontext() if own else watched(shared=mine is not None), group.joined(mine):
            return _done(command)
    except UserError as error:
        return _failed(2, f"error: {error}")
    except FloatingPointError as error:  # training diverged: nothing to trace, and nothing wrong with the input
        return _failed(1, f"error: {error}")
    except Interrupted as stop:
        if group.is_main() and not group.has_failed():  # or else this process was ended because another one failed
            print(stop, file=sys.stderr)
        return stop.status
    except group.Abandoned:
        return 1
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        return stop.status if isinstance(stop, Terminated) else 130
    except Exception as error:
        from recbole_lcrec.utils.files import storage_problem

        problem = storage_problem(error)
        if problem is None:
            if not group.may_report(1):
                return 1
            raise
        where = error.filename if isinstance(error, OSError) else None
        what = where or "a file of this run"
        return _failed(2, f"error: {what} cannot be written: {problem}. Make room, then run again.")


def _failed(status: int, message: str) -> int:
    """Say why the run failed, in one of its processes, and return the exit status."""
    if group.may_report(status):
        print(printable(message), file=sys.stderr)
    return status


def _done(command: Command) -> int:
    """Carry out a command, unless it is to go on with a run that is finished; return the exit status."""
    if command.resume is not None and not (command.resume / STARTING).is_file():
        if read_result(command.resume) is not None:
            print(f"{command.resume} is finished: {command.resume / RESULT}")
            return 0
    return start(command)
