"""The benchmarks' command line: one table of benchmarks, a table of figures on the screen, the same as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_lcrec.benchmarks import index
from recbole_lcrec.io import write_json

BENCHMARKS: dict[str, Callable[[str], list[dict[str, Any]]]] = {"index": index.run}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recbole_lcrec.benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS, help="what to measure")
    parser.add_argument("--size", choices=("XS", "S", "M"), default="XS", help="size of the data (default XS)")
    parser.add_argument("--output", type=Path, help="write the figures as JSON here")
    options = parser.parse_args(argv)
    rows = BENCHMARKS[options.name](options.size)
    machine = conditions()
    print(tabulate([list(row.values()) for row in rows], headers=list(rows[0]), floatfmt=".4g"))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.output:
        write_json(options.output, {"benchmark": options.name, "size": options.size, **machine, "rows": rows})
        print(f"Figures: {options.output}")
    return 0


def conditions() -> dict[str, Any]:
    """Return what the figures depend on beside the code: cores, threads, load and versions."""
    from importlib import metadata

    import torch

    return {
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        **{name: metadata.version(name) for name in ("torch", "numpy", "scipy")},
    }


if __name__ == "__main__":
    sys.exit(main())
