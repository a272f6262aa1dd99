"""This package beside RecBole3.0, on the same data, paths and language model: CPU seconds and their ratio.

RecBole3.0 is not part of this package: the user names a checkout, and installs what it needs. Each
measurement runs in a process of its own, the sides in turn, so that a slow spell of the machine hits both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from recbole_lcrec.benchmarks import our_side, recbole3_side
from recbole_lcrec.benchmarks.made_up import Sizes
from recbole_lcrec.benchmarks.processes import in_a_process
from recbole_lcrec.benchmarks.timing import environment
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json


@dataclass(frozen=True)
class SharedWork:
    """Something that both sides do.

    Attributes:
        what: A line for the table.
        unit: What the seconds are per.
        theirs: Measures RecBole3.0, given its checkout.
        ours: Measures this package.
        sizes: How much is measured.
    """

    what: str
    unit: str
    theirs: Callable[[str, Sizes, str], float]
    ours: Callable[[Sizes, str], float]
    sizes: Sizes = Sizes()


_MANY_WORDS = Sizes(words=32_000)
WORKS = {
    "lcrec-training": SharedWork(
        "LC-Rec training, Llama 4 x 128", "sample", recbole3_side.lcrec_training, our_side.lcrec_training
    ),
    "lcrec-training-32k": SharedWork(
        "the same, 32,000 words", "sample", recbole3_side.lcrec_training, our_side.lcrec_training, _MANY_WORDS
    ),
    "lcrec-evaluation": SharedWork(
        "LC-Rec evaluation, 20 beams", "user", recbole3_side.lcrec_evaluation, our_side.lcrec_evaluation
    ),
    "lcrec-evaluation-32k": SharedWork(
        "the same, 32,000 words", "user", recbole3_side.lcrec_evaluation, our_side.lcrec_evaluation, _MANY_WORDS
    ),
    "tiger-training": SharedWork("TIGER training", "sample", recbole3_side.tiger_training, our_side.tiger_training),
    "tiger-evaluation": SharedWork(
        "TIGER evaluation, 20 beams", "user", recbole3_side.tiger_evaluation, our_side.tiger_evaluation
    ),
    "rqvae-start": SharedWork("RQ-VAE, k-means start", "start", recbole3_side.rqvae_start, our_side.rqvae_start),
    "rqvae-epoch": SharedWork("RQ-VAE, an epoch in float32", "epoch", recbole3_side.rqvae_epoch, our_side.rqvae_epoch),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    parser.add_argument("--checkout", type=Path, required=True, help="Folder of a checkout of RecBole3.0.")
    parser.add_argument("--works", nargs="*", choices=WORKS, default=list(WORKS), help="Which; all by default.")
    parser.add_argument("--repeats", type=int, default=3, help="Measurements of each side. Default 3.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write ``--output``.

    Raises:
        UserError: For a folder that is not a checkout, or a version of RecBole3.0 with other calls.
    """
    from tabulate import tabulate

    if not (arguments.checkout / "src" / "recbole3").is_dir():
        raise UserError(
            f"--checkout={arguments.checkout}: expected a checkout of RecBole3.0, which has the folder src/recbole3."
        )
    if arguments.repeats < 1:
        raise UserError(f"peers: --repeats={arguments.repeats}: expected 1 or more.")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that measure
    rows = []
    for name in arguments.works:
        rows.append(compared(WORKS[name], str(arguments.checkout.absolute()), arguments.repeats))
        print(tabulate(rows[-1:], headers="keys", floatfmt=".4g"), flush=True)
    about = environment("torch", "transformers", "scikit-learn")
    print(tabulate(rows, headers="keys", floatfmt=".4g"))
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    if arguments.output:
        write_json(arguments.output, {**about, "repeats": arguments.repeats, "results": rows})


def compared(work: SharedWork, checkout: str, repeats: int) -> dict[str, Any]:
    """Return a row of the table: the median CPU seconds of both sides, and the ratio of theirs to ours."""
    theirs, ours = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            theirs.append(in_a_process(_theirs, work, checkout, folder))
        with tempfile.TemporaryDirectory() as folder:
            ours.append(in_a_process(work.ours, work.sizes, folder))
    return {
        "work": work.what,
        "CPU s per": work.unit,
        "RecBole3.0": median(theirs),
        "ours": median(ours),
        "ratio": median(theirs) / median(ours),
        "spread": max((max(some) - min(some)) / median(some) for some in (theirs, ours)),
    }


def _theirs(work: SharedWork, checkout: str, folder: str) -> float:
    """Measure RecBole3.0.

    Raises:
        UserError: If this version of it has other calls.
    """
    try:
        return work.theirs(checkout, work.sizes, folder)
    except (AttributeError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"--checkout={checkout}: {work.what} cannot be measured with this state of RecBole3.0 "
            f"({type(error).__name__}: {error}). Use one that has the calls of recbole_lcrec/benchmarks/"
            "recbole3_side.py, or leave this work out of --works."
        ) from error
