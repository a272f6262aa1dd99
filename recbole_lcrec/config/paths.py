"""Where configuration files are: ours in the package or in the checkout, RecBole's in its installed package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path

from packaging.specifiers import SpecifierSet

from recbole_lcrec.utils.errors import UserError

RECBOLE = ">=1.2.1,<1.3"
"""Versions of RecBole that this package is made for: it overrides steps inside RecBole's classes."""


@lru_cache(maxsize=1)
def properties_dir() -> Path:
    """Return the folder of our YAMLs, independent of the working directory.

    A wheel carries them as ``recbole_lcrec/properties``; a checkout (also an editable install) has them in
    ``properties/`` at its top.

    Raises:
        UserError: If neither is there, that is, if the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = [package / "properties", package.parent / "properties"]
    for folder in candidates:
        if (folder / "overall.yaml").is_file():
            return folder
    raise UserError(
        f"the configuration files of recbole_lcrec are missing: expected overall.yaml in {candidates[0]} or "
        f"{candidates[1]}. Install the package again (pip install .)."
    )


@lru_cache(maxsize=1)
def recbole_dir() -> Path:
    """Return the folder of the installed recbole package without importing it (that would import torch).

    Raises:
        UserError: If recbole is not installed, or is a version that this package was not made for.
    """
    install = f'Install it without its dependencies: pip install --no-deps "recbole{RECBOLE}"'
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise UserError(f"recbole is not installed. {install}")
    try:
        version = importlib.metadata.version("recbole")
    except importlib.metadata.PackageNotFoundError:
        version = None  # a checkout of RecBole on the path, which has no metadata: its owner knows what it is
    if version is not None and version not in SpecifierSet(RECBOLE):
        raise UserError(f"recbole {version} is installed, but recbole_lcrec needs {RECBOLE}. {install}")
    return Path(spec.origin).resolve().parent


def bundled_ml_100k() -> Path:
    """Return the folder of the ml-100k copy that the recbole wheel carries."""
    return recbole_dir() / "dataset_example" / "ml-100k"
