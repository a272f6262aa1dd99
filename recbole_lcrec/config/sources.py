"""Where the archive of a missing data set can be downloaded, found without a network and without importing torch.

RecBole publishes its data sets as zip archives and keeps their addresses in a YAML; the paper's data sets have short
names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.utils.errors import UserError

PAPER_NAMES = {
    "Arts": "amazon-arts-crafts-sewing-18",
    "Games": "amazon-video-games-18",
    "Instruments": "amazon-musical-instruments-18",
    "Scientific": "amazon-industrial-scientific-18",
}
"""Short names of the paper's data sets (Scientific: of its kind) -> RecBole's names, Amazon reviews of 2018."""


@dataclass(frozen=True)
class DatasetArchive:
    """The archive of a data set.

    Attributes:
        name: The data set, as the user calls it.
        url: Where the archive is downloaded from.
        archive: File name of the archive.
        from_amazon: Whether the data are Amazon reviews of 2018, whose raw files this package converts.
    """

    name: str
    url: str
    archive: str
    from_amazon: bool

    def by_hand(self, folder: Path) -> str:
        """Say what to do without a download.

        Args:
            folder: The folder that holds the data set, or will.
        """
        folder = folder.absolute()
        text = (
            f"Without a download: put {self.name}.inter and {self.name}.item into {folder}, or the archive itself as "
            f"{folder / self.archive} (it is unpacked then, not downloaded)"
        )
        if self.from_amazon:
            text += (
                f", or convert raw Amazon files: python -m recbole_lcrec.convert amazon2018 <folder> "
                f"--name {self.name} --output {folder.parent}"
            )
        return text + "."


@lru_cache(maxsize=1)
def recbole_urls() -> dict[str, str]:
    """Return name -> address of the archives that RecBole publishes; its wheel already carries ml-100k."""
    urls = load_values(recbole_dir() / "properties" / "dataset" / "url.yaml")
    return {name: url for name, url in urls.items() if name != "ml-100k"}


def downloadable_datasets() -> list[str]:
    """Return the names of data sets that are downloaded when they are missing: the short ones, then RecBole's."""
    return [*PAPER_NAMES, *recbole_urls()]


def source_of(name: str, options: Mapping[str, Any]) -> DatasetArchive | None:
    """Return where the archive of a data set comes from, or None if it is not known.

    Args:
        name: The data set.
        options: Option ``dataset_url``, which wins over the known addresses.

    Raises:
        UserError: If ``dataset_url`` is not a web address.
    """
    recbole_name = PAPER_NAMES.get(name, name)
    given = options.get("dataset_url")
    url = given or recbole_urls().get(recbole_name)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(
            f"option dataset_url is {given}; expected the address of a zip archive, http://... or https://... A file "
            "on this machine needs no address: put it into the data set's folder."
        )
    archive = PurePosixPath(unquote(parts.path)).name
    if not archive.endswith(".zip"):  # an address such as .../download?id=3
        archive = f"{name}.zip"
    from_amazon = recbole_name.startswith("amazon-") and recbole_name.endswith("-18")
    return DatasetArchive(name, url, archive, from_amazon)
