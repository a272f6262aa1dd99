"""Option ``logger``: which programs for experiments get the metrics of a run, read without importing any of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from recbole_lcrec.utils.errors import nearest

LOGGERS = ("tensorboard", "wandb", "mlflow")
"""Each has the name of the package that it needs; all but the first are extras of this package."""


def chosen_loggers(options: Mapping[str, Any]) -> list[str]:
    """Return the names in ``logger`` (a list, or separated by commas), and wandb for RecBole's ``log_wandb``."""
    given = options.get("logger") or []
    names = given.split(",") if isinstance(given, str) else given
    names = [str(name).strip() for name in names]
    return list(dict.fromkeys([*filter(None, names), *(["wandb"] if options.get("log_wandb") else [])]))


def unknown_loggers(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the names of ``logger``."""
    for name in chosen_loggers(options):
        if name not in LOGGERS:
            yield (
                f"option logger: there is no {name}; expected {', '.join(LOGGERS)}, several with commas between "
                f"them, or None.{nearest(name, LOGGERS)}"
            )


def missing_loggers(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield which loggers of a run to be trained are not installed, and how to install them."""
    for name in chosen_loggers(options):
        if name in LOGGERS and not _is_installed(name):
            what = "logger (or log_wandb) names wandb" if name == "wandb" else f"logger names {name}"
            yield (
                f'option {what}, but the package {name} is not installed: pip install "recbole-lcrec[{name}]", or '
                "leave it out"
            )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module that was made by hand
        return package in sys.modules
