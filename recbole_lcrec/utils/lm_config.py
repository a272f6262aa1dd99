"""Numbers of a transformers model's configuration, which not every architecture has."""

from __future__ import annotations

from typing import Any


def number_of(config: Any, name: str) -> Any:
    """Return a number from a configuration's text part by transformers' common name; None if it has none."""
    return getattr(config.get_text_config(), name, None)
