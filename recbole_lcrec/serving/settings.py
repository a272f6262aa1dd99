"""The options of a server, and the bounds that they set on one request; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.settings import StageSettings, settings_from
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError, shortened

LONGEST_HISTORY = 1_000
"""Most items of a history; a model sees the last MAX_ITEM_LIST_LENGTH of them."""
LONGEST_TEXT = 1_000
"""Most characters of a wish or of words to look for."""


@dataclass(frozen=True)
class ServeSettings(StageSettings):
    """Options of a server; each is explained in properties/serve.yaml."""

    serve_host: str
    serve_port: int
    serve_batch: int
    serve_wait_ms: float
    serve_queue: int
    serve_histories: int
    serve_k: int
    serve_body_kb: int

    def k(self, what: str, value: Any) -> int:
        """Return how many items are asked for.

        Raises:
            UserError: If it is not a whole number of at least 1, or more than ``serve_k``.
        """
        number = arguments.whole_number(what, value)
        if number > self.serve_k:
            raise UserError(f"{what} must be at most {self.serve_k} (option serve_k of the server), found {number}.")
        return number

    def histories(self, what: str, value: Any) -> list[list[str]]:
        """Return histories of item tokens.

        Raises:
            UserError: If it is anything else, or more or longer histories than one request may have.
        """
        self._check_number(what, value)
        found = arguments.item_lists(what, value, may_be_empty=True)
        for history in found:
            _check_length(what, history)
        return found

    def users(self, what: str, value: Any) -> list[str]:
        """Return user tokens.

        Raises:
            UserError: If it is anything else, or more users than a request may have histories.
        """
        self._check_number(what, value)
        return arguments.item_list(f"{what}: expected a non-empty list of user tokens", value)

    def _check_number(self, what: str, value: Any) -> None:
        if isinstance(value, list) and len(value) > self.serve_histories:
            raise UserError(
                f"{what}: at most {self.serve_histories} in one request (option serve_histories of the server), "
                f"found {len(value)}."
            )

    def history(self, what: str, value: Any) -> list[str]:
        """Return one history of item tokens.

        Raises:
            UserError: If it is anything else, or longer than ``LONGEST_HISTORY``.
        """
        found = arguments.item_list(f"{what}: expected a non-empty list of item tokens", value)
        _check_length(what, found)
        return found

    def text(self, what: str, value: Any) -> str:
        """Return words.

        Raises:
            UserError: If it is not text, is blank, or is longer than ``LONGEST_TEXT``.
        """
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{what} must be text, found {shortened(value)}.")
        if len(value) > LONGEST_TEXT:
            raise UserError(f"{what} has {len(value):,} characters; at most {LONGEST_TEXT:,} are read.")
        return value


def _check_length(what: str, history: list[str]) -> None:
    if len(history) > LONGEST_HISTORY:
        raise UserError(f"{what}: a history has {len(history):,} items; at most {LONGEST_HISTORY:,} are read.")


@lru_cache(maxsize=1)
def serve_options() -> dict[str, Any]:
    """Return the options of a server and their defaults."""
    return load_values(properties_dir() / "serve.yaml")


def read_settings(given: Mapping[str, Any]) -> ServeSettings:
    """Return the settings of a server.

    Args:
        given: Checked options; those that are not a server's are ignored.
    """
    return settings_from(ServeSettings, {**serve_options(), **given})


def run_names(folders: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the names by which runs are asked for: those of their folders, or the paths if these are equal."""
    names = tuple(folder.resolve().name for folder in folders)
    return names if len(set(names)) == len(names) else tuple(str(folder) for folder in folders)
