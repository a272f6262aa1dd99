"""Numbers of a transformers model's configuration, which not every architecture has."""

from __future__ import annotations

from typing import Any


def text_config(config: Any) -> Any:
    """Return the part of a configuration that is about text; the whole where it is about nothing else."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def number_of(config: Any, name: str) -> Any:
    """Return a number of a configuration's text part by transformers' common name; None if it has no such number."""
    return getattr(text_config(config), name, None)
