"""Options that name files and folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODEL_PATHS = frozenset({"base_model", "pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path"})
"""Options that name a file or folder that a model's constructor reads."""
PATHS = MODEL_PATHS | {"index_file", "collaborative_from", "embedding_ids_file", "text_encoder", "user_text"}
"""Options that may name a file or folder outside the data set."""


def absolute_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options whose files and folders do not depend on the working directory, for other processes."""
    options = dict(given)
    for name in ("data_path", "cache_dir", "output_dir"):
        if options.get(name):
            options[name] = str(Path(options[name]).absolute())
    return {name: absolute(name, value) if name in PATHS else value for name, value in options.items()}


def absolute(name: str, value: Any) -> Any:
    """Return an existing file or folder (perhaps behind ``file:`` or ``hf:``) as an absolute path, all else as is."""
    kind, source = _kind_and_source(name, value)
    if not source or not Path(source).expanduser().exists():
        return value
    return f"{kind}{Path(source).expanduser().absolute()}"


def _kind_and_source(name: str, value: Any) -> tuple[str, str]:
    """Return the kind before a file or folder (``file:``, ``hf:`` or nothing) and its name ("" for other values)."""
    if not isinstance(value, str):
        return "", ""
    if name not in ("text_encoder", "user_text"):
        return "", value
    kind, colon, source = value.partition(":")
    return (f"{kind}:", source) if colon and kind in ("file", "hf") else ("", "")


def named_file(name: str, value: Any) -> Path | None:
    """Return the existing file or folder that an option names outside the data set; None for all other values."""
    source = _kind_and_source(name, value)[1] if name in PATHS else ""
    path = Path(source).expanduser()
    return path.absolute() if source and path.exists() else None
