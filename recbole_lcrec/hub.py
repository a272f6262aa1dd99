"""Loading of transformers models and tokenizers by hub name or from a folder, with one message when it fails."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.errors import UserError

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_pretrained(auto_class: Any, source: str, option: str, **options: Any) -> Any:
    """Return ``auto_class.from_pretrained(source)``.

    Args:
        auto_class: AutoTokenizer, AutoModel, ...
        source: Name on the hub or local folder.
        option: What the user wrote, such as ``base_model=gpt2``, for the message.
        options: Passed on.

    Raises:
        UserError: Naming ``option``, when nothing can be loaded; code that a model brings along is never run.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and not _HUB_NAME.fullmatch(source):
        raise UserError(f"{option}: there is no such folder, and it is no name of a model on the hub.")
    name = str(folder) if folder.is_dir() else source
    local = folder.is_dir() or _revision_on_hub(source) is None
    try:
        return auto_class.from_pretrained(name, local_files_only=local, **options)
    except Exception as error:  # transformers raises many kinds, all of which mean the same to the user
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{option}: no model can be loaded from it by {auto_class.__name__} ({reason}). Give a local folder with "
            "the tokenizer and weights of a transformers model, or the name of one on the hub (needs a network or a "
            "filled cache)."
        ) from error


def revision_of(name: str) -> str | None:
    """Return the commit that a model's name on the hub stands for now, there or in the local cache; None for none."""
    from huggingface_hub import try_to_load_from_cache

    if not _HUB_NAME.fullmatch(name):
        return None
    if (revision := _revision_on_hub(name)) is not None:
        return revision
    known = try_to_load_from_cache(name, "config.json")
    return Path(known).parent.name if isinstance(known, str) else None  # .../snapshots/<commit>/config.json


@lru_cache(maxsize=64)
def _revision_on_hub(name: str) -> str | None:
    """Return the commit that the hub has now; transformers itself asks for a minute before it gives up."""
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(name, timeout=10).sha
    except Exception:  # no network, no such model, no right to see it: only the local cache can help
        return None
