"""Configuration: known options, their check, and RecBole's Config without its surprises.

Only :class:`LCRecConfig` needs torch and recbole; it is imported on first access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole_lcrec.config.names import known_datasets, known_models
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.settings import StageSettings, settings_from

if TYPE_CHECKING:
    from recbole_lcrec.config.configuration import LCRecConfig

__all__ = ["LCRecConfig", "StageSettings", "known_datasets", "known_models", "properties_dir", "settings_from"]


def __getattr__(name: str) -> Any:
    if name == "LCRecConfig":
        from recbole_lcrec.config.configuration import LCRecConfig

        return LCRecConfig
    raise AttributeError(f"module {__name__} has no attribute {name}")
