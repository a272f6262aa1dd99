"""What the benchmarks of language models share: their options, the checks of these, and how results are printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recbole_lcrec.benchmarks.models import ARCHITECTURES, SIZES
from recbole_lcrec.benchmarks.timing import device_name, environment
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json


def add_model_arguments(parser: argparse.ArgumentParser, seeded: str) -> None:
    """Describe the options that every benchmark of a language model has.

    Args:
        parser: Of the benchmark.
        seeded: What the seed is of, for the help.
    """
    parser.add_argument("--size", choices=SIZES, default="S", help="Size of the language model. Default S.")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="llama", help="Default llama.")
    parser.add_argument("--repeats", type=int, default=5, help="Timed rounds. Default 5.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch. Default 1.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda. Default cpu.")
    parser.add_argument("--seed", type=int, default=0, help=f"Of {seeded}. Default 0.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


@contextmanager
def on_threads(arguments: argparse.Namespace, **counts: int) -> Iterator[None]:
    """While the block runs, let torch use ``--threads``; first check the options.

    Args:
        arguments: Of the benchmark.
        counts: Other options that must be 1 or more.

    Raises:
        UserError: For a number below 1, and for a missing GPU.
    """
    counts = {**counts, "repeats": arguments.repeats, "threads": arguments.threads}
    if low := [name for name, count in counts.items() if count < 1]:
        raise UserError(f"{arguments.name}: {', '.join(low)}: expected 1 or more.")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{arguments.name}: --device={arguments.device}, but torch sees no GPU. Use --device=cpu.")
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tell(arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]], message: str, **found: Any) -> None:
    """Print a table, what was checked and what the times depend on; write all of it and the options to ``--output``.

    Args:
        arguments: Of the benchmark.
        rows: The table.
        message: What was checked, in one line.
        found: Further results, for the file.
    """
    from tabulate import tabulate

    about = environment("torch", "transformers")
    about |= {"torch threads": arguments.threads, "device": device_name(arguments.device)}
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    print(message)
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    if arguments.output:
        options = {name: value for name, value in vars(arguments).items() if name != "output"}
        write_json(arguments.output, {**options, **about, **found, "results": rows})
