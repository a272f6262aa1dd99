"""Loading of transformers models, configurations and tokenizers by hub name or from a folder: the one door.

Everything that comes from a hub or from a user's folder goes through here, so that Python code that a model brings
along (``auto_map``) is never run, pickles are read as tensors only, nothing is asked on the terminal, and every
failure ends in one message that names the option.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.files import write_text
from recbole_lcrec.utils.gguf import converted

ADAPTER = "adapter_config.json"
"""The file that marks a folder as one of peft's adapters."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_NOT_RUN = (
    "it brings Python code of its own (auto_map), which is never run. Use a model whose architecture transformers "
    "itself has"
)
_WITHOUT_WEIGHTS = """\
This is the architecture of a run's language model, without weights: they are in `../checkpoint`, together with all
else that the run has trained, and under other names than transformers looks for. For a folder that transformers loads,
with weights, tokenizer and a script that recommends, export the run:

    python -m recbole_lcrec --export=RUN_DIR --output=NEW_FOLDER

RUN_DIR is the folder above this one.
"""

_EXPECTED = (
    "Give a local folder with the tokenizer and weights of a transformers model, a GGUF file, smollm2-135m, or the "
    "name of a model on the hub (needs a network or a filled cache)"
)


def load_pretrained(auto_class: Any, source: str | Path, option: str, **options: Any) -> Any:
    """Return ``auto_class.from_pretrained(source)``.

    Args:
        auto_class: AutoTokenizer, AutoConfig, AutoModel, ...
        source: Name on the hub or local folder.
        option: What the user wrote, such as ``base_model=gpt2``, for the message.
        options: Passed on.

    Raises:
        UserError: Naming ``option``, when nothing can be loaded; code that a model brings along is never run.
    """
    name, local = place_of(source, option)
    try:
        return auto_class.from_pretrained(name, local_files_only=local, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises many kinds, all of which mean the same to the user
        raise UserError(_explained(auto_class.__name__, option, error)) from error


def load_weights(
    auto_class: Any, source: str | Path, option: str, *, may_lack: Sequence[str] = (), **options: Any
) -> Any:
    """Return a model with all of its weights; pickled weights are read as tensors and nothing else.

    Args:
        auto_class: AutoModel, AutoModelForCausalLM, ...
        source: Name on the hub or local folder; adapters are refused.
        option: As for ``load_pretrained``.
        may_lack: Parts of the names of weights that are not read and may be missing.
        options: Passed on.

    Raises:
        UserError: As for ``load_pretrained``, and for weights that the file lacks: they would be random.
    """
    base = adapter_base(source, option)
    if base is not None:
        raise UserError(f"{option}: it is an adapter of {base}, not a whole model. {merging_advice(base)}")
    found = load_pretrained(auto_class, source, option, weights_only=True, output_loading_info=True, **options)
    model, info = found
    missing = sorted(name for name in info["missing_keys"] if not any(part in name for part in may_lack))
    if missing:
        raise UserError(
            f"{option}: the weights lack {len(missing)} of the tensors that {type(model).__name__} has, e.g. "
            f"{missing[0]}, which would be random. Give the folder of a model that was saved as one of this kind."
        )
    return model


@contextmanager
def without_report() -> Iterator[None]:
    """While the block runs, keep transformers from listing weights that a model does not use."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def write_architecture(config: Any, folder: Path) -> None:
    """Write a model's configuration as a finished run keeps it, and a note on where its weights are.

    Args:
        config: A configuration of transformers.
        folder: Folder ``lm`` of the run.
    """
    config.save_pretrained(folder)
    write_text(folder / "README.md", _WITHOUT_WEIGHTS)


def saved_architecture(auto_class: Any, run: Path) -> Any:
    """Return the model of a finished run's ``lm`` folder in float32; its weights come from the checkpoint.

    Raises:
        UserError: If the folder cannot be read, or needs code of its own or more memory than there is.
    """
    import torch
    from transformers import AutoConfig

    option = str(run / "lm")
    config = load_pretrained(AutoConfig, run / "lm", option)
    try:
        with torch.device("meta"):  # shapes only: the sizes in the file may be anything
            bare = auto_class.from_config(config, trust_remote_code=False, dtype=torch.float32)
        check_memory(sum(weight.numel() for weight in bare.parameters()), option)
        return auto_class.from_config(config, trust_remote_code=False, dtype=torch.float32)
    except UserError:
        raise
    except Exception as error:  # as many kinds as there are architectures
        raise UserError(
            f"{option}: no model can be built from it ({reason_of(error)}). Train the run again."
        ) from error


def check_memory(parameters: int, what: str) -> None:
    """Refuse a model whose weights alone, in float32, exceed this machine's memory.

    Raises:
        UserError: Naming ``what``.
    """
    import psutil

    memory = psutil.virtual_memory().total
    if 4 * parameters > memory:
        raise UserError(
            f"{what}: a model of {parameters:,} parameters takes {4 * parameters / 2**30:,.0f} GiB, and this machine "
            f"has {memory / 2**30:,.0f} GiB of memory. Make it smaller."
        )


def place_of(source: str | Path, option: str) -> tuple[str, bool]:
    """Return what to pass to from_pretrained for a source, and whether to load local files only.

    Raises:
        UserError: If it is neither a folder, nor a model that can be converted, nor a possible name on the hub.
    """
    folder = converted(source, option) or Path(source).expanduser()
    if folder.is_dir():
        return str(folder), True
    if not _HUB_NAME.fullmatch(str(source)):
        raise UserError(f"{option}: there is no such folder, and it is not the name of a model on the hub.")
    return str(source), _revision_on_hub(str(source)) is None


def adapter_base(source: str | Path, option: str) -> str | None:
    """Return the base model that an adapter names; None if ``source`` is not an adapter.

    Raises:
        UserError: If its adapter_config.json cannot be read.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    name, local = place_of(source, option)
    if Path(name).is_dir():
        path = str(Path(name) / ADAPTER) if (Path(name) / ADAPTER).is_file() else None
    else:
        try:
            path = find_adapter_config_file(name, local_files_only=local)
        except OSError:  # no model of that name, as loading it will report
            return None
    if path is None:
        return None
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        base = values["base_model_name_or_path"]
        if not isinstance(base, str) or not base:
            raise ValueError("it names no base model")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{option}: {path} cannot be read ({reason_of(error)}).") from error
    beside = Path(name).parent / base
    if not Path(base).expanduser().is_dir() and Path(name).is_dir() and beside.is_dir():
        return str(beside)
    return base


def merging_advice(base: str) -> str:
    """Return advice on how to merge an adapter into a whole model."""
    return (
        f'Merge it first: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), ADAPTER)'
        ".merge_and_unload().save_pretrained(FOLDER), and save the tokenizer there, too."
    )


def _explained(kind: str, option: str, error: Exception) -> str:
    """Return the message about a failure to load."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return f"{option}: {_NOT_RUN}."
    if "torch.load" in text or "weights_only" in text.lower() or "pickle" in text.lower():
        return (
            f"{option}: its weights are pickled (.bin), and not all that they hold is tensors, so they are not "
            "loaded. Save the model as safetensors where it is trusted: model.save_pretrained(FOLDER)."
        )
    return f"{option}: no model can be loaded from it by {kind} ({reason_of(error)}). {_EXPECTED}."


def revision_of(name: str) -> str | None:
    """Return the commit that a model's hub name stands for now, on the hub or in the local cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    if not _HUB_NAME.fullmatch(name):
        return None
    if (revision := _revision_on_hub(name)) is not None:
        return revision
    known = try_to_load_from_cache(name, "config.json")
    return Path(known).parent.name if isinstance(known, str) else None  # .../snapshots/<commit>/config.json


@lru_cache(maxsize=64)
def _revision_on_hub(name: str) -> str | None:
    """Return the commit that the hub has now; transformers itself would try for a minute before giving up."""
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(name, timeout=10).sha
    except Exception:  # no network, no such model, no right to see it: only the local cache can help
        return None
