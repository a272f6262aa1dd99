"""Numbers of a transformers model's configuration, which not every architecture has."""

from __future__ import annotations

from typing import Any


def number_of(config: Any, name: str) -> Any:
    """Return a number of a configuration's text part by transformers' common name; None if it has no such number."""
    return getattr(config.get_text_config(), name, None)
