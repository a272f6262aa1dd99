"""What a command recommends, to whom and into which file: read and checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir

ALL = "all"
FORMATS = (".csv", ".parquet", ".jsonl")
PART = 2048
"""Users per part of the output: the most that an interruption costs, and what is held in memory."""


@dataclass(frozen=True)
class Order:
    """The arguments of ``--recommend``.

    Attributes:
        run_dir: Folder of the finished run.
        output: The file to write.
        users: ``all``, or a file of user tokens; None with ``histories``.
        histories: A file of histories; None with ``users``.
        among: A file of item tokens to choose from, or None.
        titles: Whether to write titles.
        unknown: ``error`` or ``skip``.
        k: Items per user; None for the largest of the run's ``topk``.
        address: A running Ray cluster, or None.
        options: Options of the run to change.
    """

    run_dir: Path
    output: Path
    users: str | None
    histories: Path | None
    among: Path | None
    titles: bool
    unknown: str
    k: int | None
    address: str | None
    options: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        """Folder of the parts already written."""
        return self.output.with_name(f"{self.output.name}.partial")


@lru_cache(maxsize=1)
def recommend_options() -> dict[str, Any]:
    """Return the options of recommending with their defaults."""
    return load_values(properties_dir() / "recommend.yaml")
