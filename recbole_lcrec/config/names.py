"""Names of models and data sets that can be run, found without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.paths import bundled_ml_100k, properties_dir, recbole_dir
from recbole_lcrec.config.registry import MODELS
from recbole_lcrec.config.sources import downloadable_datasets, source_of
from recbole_lcrec.utils.errors import UserError, nearest


@lru_cache(maxsize=1)
def recbole_models() -> list[str]:
    """Return the names of RecBole's models, sorted: the classes named like their module, as RecBole requires."""
    names = []
    for path in (recbole_dir() / "model").glob("*_recommender/*.py"):
        classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8", errors="replace"), re.M)
        names += [name for name in classes if name.lower() == path.stem]
    return sorted(names, key=str.lower)


def known_models() -> list[str]:
    """Return the names of all models: ours, then RecBole's."""
    return [*MODELS.names, *(name for name in recbole_models() if name not in MODELS)]


def known_datasets(data_path: str | Path) -> list[str]:
    """Return the data sets that can be run: those found in ``data_path``, and ml-100k, which RecBole carries."""
    folder = Path(data_path)
    found = (
        {path.name for path in folder.iterdir() if any(path.glob(f"{path.name}*.inter"))} if folder.is_dir() else set()
    )
    return sorted(found | {"ml-100k"}, key=str.lower)


def described_datasets() -> list[str]:
    """Return the data sets that have a YAML of ours in properties/dataset."""
    return sorted((path.stem for path in (properties_dir() / "dataset").glob("*.yaml")), key=str.lower)


def is_model(name: str) -> bool:
    """Return whether this package, a plugin or RecBole has a model of this name."""
    return name in known_models()


def check_model(name: str) -> None:
    """Refuse a model that neither this package nor RecBole has.

    Raises:
        UserError: With the nearest known name.
    """
    if not is_model(name):
        hint = nearest(name, known_models()) or " --help=models lists all of them."
        raise UserError(f"unknown model {name}.{hint}")


def dataset_folder(name: str, data_path: str | Path) -> Path:
    """Return the folder of a data set: ``<data_path>/<name>``, or RecBole's copy of ml-100k if that is missing."""
    folder = Path(data_path) / name
    return bundled_ml_100k() if name == "ml-100k" and not folder.is_dir() else folder


def missing_files(name: str, folder: Path, parts: Sequence[str] | None) -> list[Path]:
    """Return the interaction files that a data set needs but lacks.

    Args:
        name: The data set.
        folder: Its folder.
        parts: Option ``benchmark_filename``: the parts of a split that lies in several files, or None.
    """
    stems = [f"{name}.{part}" for part in parts] if parts else [name]
    return [path for path in (folder / f"{stem}.inter" for stem in stems) if not path.is_file()]


def check_dataset(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a data set whose interaction files are missing and cannot be downloaded.

    Args:
        name: The data set.
        options: ``data_path``; ``download`` and ``dataset_url``; and ``benchmark_filename`` where a user set it (the
            split is then in several files).

    Raises:
        UserError: With the files that were expected, and what to do: the data sets found and the nearest name, or how
            to do without a download.
    """
    data_path = str(options["data_path"])
    if not name or Path(name).name != name:
        raise UserError(
            f"'{name}' is not the name of a data set: give the folder that holds it as --data_path instead."
        )
    parts: Sequence[str] | None = options.get("benchmark_filename")
    folder = dataset_folder(name, data_path)
    missing = missing_files(name, folder, parts)
    if not missing:
        return
    source = source_of(name, options)
    if source is not None and (options.get("download") or (folder / source.archive).is_file()):
        return  # fetched when the data are loaded (recbole_lcrec.data.fetch), after all options have been checked
    not_found = f"{', '.join(str(path.absolute()) for path in missing)} not found"
    if source is not None:
        raise UserError(f"data set {name}: {not_found}, and download is False. {source.by_hand(folder)}")
    if not parts and (split := sorted(folder.glob(f"{name}.*.inter"))):
        names = [path.name.removeprefix(f"{name}.").removesuffix(".inter") for path in split]
        names.sort(key=lambda part: (*(part.startswith(word) for word in ("test", "val")), part))  # as they are used
        raise UserError(
            f"data set {name}: {not_found}, but its folder has {', '.join(path.name for path in split)}. If these are "
            "the training, validation and test parts of a ready split, name them in that order, e.g. "
            f'--benchmark_filename="[{", ".join(names)}]".'
        )
    found = known_datasets(data_path)
    hint = "" if parts else nearest(name, [*found, *downloadable_datasets()])
    raise UserError(
        f"unknown data set {name}: {not_found}.{hint} Data sets found with data_path={data_path}: {', '.join(found)}."
    )
