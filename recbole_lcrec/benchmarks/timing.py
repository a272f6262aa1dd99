"""What all benchmarks share: times taken side by side, and what they depend on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from statistics import median
from typing import Any

from recbole_lcrec.utils.checkout import commit
from recbole_lcrec.version import __version__


@dataclass(frozen=True)
class Times:
    """Wall seconds of one side, a number per repetition."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median: how far the repetitions disagree."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def side_by_side(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Time several ways to do the same, in turn, so that a slow spell of the machine hits all of them.

    Args:
        sides: Name -> what to time; each is run once before anything is timed.
        repeats: Timed runs of each side, 1 or more.
    """
    for function in sides.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats):
        # every other round backwards: a side must not always follow the same one
        for name, function in list(sides.items())[:: 1 if number % 2 == 0 else -1]:
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def environment(*packages: str) -> dict[str, Any]:
    """Return what the times depend on.

    Args:
        packages: Installed packages whose versions matter.
    """
    return {
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load average": [round(load, 2) for load in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "command": f"python -m recbole_lcrec.benchmarks {shlex.join(sys.argv[1:])}",
        "date": date.today().isoformat(),
        "commit": commit(),
        "version": __version__,
    }


def device_name(device: str) -> str:
    """Return the name of a GPU, or ``device`` itself."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
