"""Where and with what a run makes what it needs: embeddings, an index, users' texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.settings import settings_from


@dataclass(frozen=True)
class Making:
    """Arguments of every function that makes something and keeps it in the cache."""

    cache_dir: str
    seed: int
    device: Any
    show_progress: bool

    @classmethod
    def arguments(cls, config: Any) -> dict[str, Any]:
        """Return the arguments of a configuration by name."""
        made = settings_from(cls, config)
        return {
            "cache_dir": Path(made.cache_dir),
            "seed": made.seed,
            "device": str(made.device),
            "show_progress": bool(made.show_progress),
        }
