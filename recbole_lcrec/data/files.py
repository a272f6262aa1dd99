"""Where the atomic files of a data set are, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.run_options import RunOptions


@dataclass(frozen=True)
class DataFiles:
    """The atomic files of one data set.

    Attributes:
        folder: Folder of the files.
        name: Name of the data set: the files are ``<name>.inter``, ``<name>.item``, ``<name>.review``.
        user_field: Column of the user token.
        item_field: Column of the item token.
        time_field: Column of the time, None to do without.
        separator: RecBole's ``field_separator``.
        encoding: RecBole's ``encoding``; UTF-8 when None.
    """

    folder: Path
    name: str
    user_field: str = "user_id"
    item_field: str = "item_id"
    time_field: str | None = "timestamp"
    separator: str = "\t"
    encoding: str | None = None

    @classmethod
    def of(cls, dataset: Any) -> DataFiles:
        """Return the files that a RecBole dataset was read from."""
        run = RunOptions(dataset.config)
        return cls(
            Path(run.data_path), dataset.dataset_name, dataset.uid_field, dataset.iid_field, dataset.time_field,
            run.field_separator, run.encoding,
        )  # fmt: skip

    def path(self, kind: str) -> Path:
        """Return the path of one file, e.g. of kind ``item``."""
        return self.folder / f"{self.name}.{kind}"
