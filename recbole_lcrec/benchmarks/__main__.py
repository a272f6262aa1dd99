"""``python -m recbole_lcrec.benchmarks NAME [options]``; ``--help`` lists the names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recbole_lcrec.benchmarks import against_recbole3, decoding, index, scale, serving, steps, training
from recbole_lcrec.utils.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the table below.

    Attributes:
        help: What it measures, in one line.
        add_arguments: Describes its options.
        run: Measures, prints and writes.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


BENCHMARKS = {
    "decoding": Benchmark(
        "Constrained decoding against transformers' generate.", decoding.add_arguments, decoding.run
    ),
    "training": Benchmark("Training against the plain recipe.", training.add_arguments, training.run),
    "profile": Benchmark(
        "A training step's parts, and its share of what the processor can do.", steps.add_arguments, steps.run
    ),
    "peers": Benchmark(
        "RecBole3.0 and this package side by side.", against_recbole3.add_arguments, against_recbole3.run
    ),
    "scale": Benchmark("A whole run's parts on a large catalogue.", scale.add_arguments, scale.run),
    "serving": Benchmark(
        "A server of a saved run, against one request after another.", serving.add_arguments, serving.run
    ),
    "index": Benchmark("Uniform semantic mapping of a made-up catalogue.", index.add_arguments, index.run),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0, or 2 after a mistake the user can fix (argparse ends with 2 itself).
    """
    parser = argparse.ArgumentParser(prog="python -m recbole_lcrec.benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        benchmark.add_arguments(commands.add_parser(name, help=benchmark.help, description=benchmark.help))
    arguments = parser.parse_args(argv)
    # Read by OpenMP when a process starts to compute: waiting threads that spin slow down all processes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        BENCHMARKS[arguments.name].run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
