"""The command line: read ``--name=value`` arguments, report all mistakes at once, start the experiment.

Everything that can be checked without torch is checked before torch is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from recbole_lcrec.cli.parsing import Command, parse
from recbole_lcrec.config.overview import help_text
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.config.plugins import load_installed
from recbole_lcrec.config.saved_run import (
    read_result,
)
from recbole_lcrec.distributed import group
from recbole_lcrec.training.interruption import Interrupted, Terminated, watched
from recbole_lcrec.utils.allocator import keep_freed_memory
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import RESULT, STARTING
from recbole_lcrec.utils.streams import LastingStream, lasting, printable


def start(command: Command) -> int:
    """Execute a command and return its exit status; this is where torch and RecBole are imported."""
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
        # Waiting threads must not spin: on a shared machine, spinning makes everything ten times slower. OpenMP reads
        # this when torch is imported, so it is set before.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        keep_freed_memory()
        return _run(argv)


def program() -> NoReturn:
    """Run the command line of this process, and end the process with the exit status."""
    try:
        status = main()
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = 1
    group.end_process(status)


def _help_topic(argv: Sequence[str]) -> str | None:
    """Return the topic on which help is requested, "" for all topics; None if no help is requested."""
    asked = (argument.partition("=") for argument in argv)
    return next((topic for name, _, topic in asked if name in ("--help", "-h")), None)


def _print_help(topic: str) -> int:
    print(help_text(topic), flush=True)
    problem = sys.stdout.problem if isinstance(sys.stdout, LastingStream) else None
    return 0 if problem is None else _failed(2, f"error: standard output cannot be written: {problem}.")


def _run(argv: Sequence[str]) -> int:
    """Parse and execute a command line; return the exit status."""
    try:
        recbole_dir()  # report a missing or outdated RecBole here: everything else would do so in its own way
        if (topic := _help_topic(argv)) is not None:
            load_installed()
            return _print_help(topic)
        mine = group.place_of(os.environ)
        if mine is not None:  # before torch is loaded: its warnings about unused parameters are of no use
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
        if group.is_main() and not group.has_failed():  # otherwise this process was ended because another one failed
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
    """Execute a command, unless it resumes a run that is finished; return the exit status."""
    if command.resume is not None and not (command.resume / STARTING).is_file():
        if read_result(command.resume) is not None:
            print(f"{command.resume} is finished: {command.resume / RESULT}")
            return 0
    return start(command)
