"""Where configuration files lie: ours beside the package or the checkout, RecBole's inside its installed package."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from recbole_lcrec.errors import UserError


@lru_cache(maxsize=1)
def properties_dir() -> Path:
    """Return the folder of our YAMLs, whatever the working directory.

    A wheel carries them as ``recbole_lcrec/properties``; a checkout (also when it is installed editable) has them in
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
        UserError: If recbole is not installed.
    """
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise UserError("recbole is not installed. Install it: pip install -r requirements.txt")
    return Path(spec.origin).resolve().parent


def bundled_ml_100k() -> Path:
    """Return the folder of the ml-100k copy that the recbole wheel carries."""
    return recbole_dir() / "dataset_example" / "ml-100k"
