"""The one checkpoint format: ``model.safetensors`` for weights, ``state.pt`` (weights_only) for all other state.

Both lie in one folder, which is written next to its place and renamed: a folder with that name is whole. Later damage
is detected by ``manifest.json``, which has the size and the SHA-256 of each file.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_lcrec.distributed import group
from recbole_lcrec.model.interface import KeepsOwnWeights
from recbole_lcrec.utils import integrity
from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.files import atomic_folder

WEIGHTS, STATE = "model.safetensors", "state.pt"
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError),
    *(KeyError, IndexError, TypeError, AttributeError),
)
"""What is raised by reading a file that is damaged or is not a checkpoint."""


def save_checkpoint(folder: Path, model: Any, state: dict[str, Any]) -> None:
    """Write weights and state to ``folder``, whole or not at all; of several processes only the main one writes.

    Args:
        folder: The checkpoint's folder; an earlier checkpoint there is replaced.
        model: A RecBole model; it may choose what to save (``KeepsOwnWeights``).
        state: Epoch, optimizer state and the like: tensors, numbers, strings, lists and dicts of them.

    Raises:
        TypeError: If RecBole's ``other_parameter`` of the model holds something that cannot be stored safely.
        StorageError: If the disk is full or refuses.
    """
    from safetensors.torch import save_file

    from recbole_lcrec.training.sharded import is_sharded, whole_weights

    if is_sharded(model):
        weights = whole_weights(model)
    else:
        weights = model.checkpoint_state() if isinstance(model, KeepsOwnWeights) else model.state_dict()
    tensors, aliases = _without_aliases(weights)
    # a module among them (RecBole's DIN) has its weights in the state dict already
    other = {k: v for k, v in (model.other_parameter() or {}).items() if not isinstance(v, torch.nn.Module)}
    state = {
        **state,
        "other_parameter": {key: pack(f"other_parameter '{key}'", value) for key, value in other.items()},
    }
    if not group.is_main():
        return
    with atomic_folder(folder, _bytes_of([tensors, state])) as temporary:
        save_file(tensors, str(temporary / WEIGHTS), metadata={"aliases": json.dumps(aliases)})
        torch.save(state, temporary / STATE)
        write_manifest(temporary)


def write_manifest(folder: Path) -> None:
    """Write the size and the SHA-256 of each file of a checkpoint next to them."""
    integrity.write_manifest(folder, (WEIGHTS, STATE))


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, in a few words; None if they are as they were written."""
    return integrity.damage(folder, required=(WEIGHTS, STATE))


def _bytes_of(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    return sum(map(_bytes_of, value)) if isinstance(value, (list, tuple)) else 0


def load_checkpoint(folder: Path, model: Any, device: Any = "cpu") -> dict[str, Any]:
    """Load weights and RecBole's ``other_parameter`` into ``model`` and return the rest of the state.

    Raises:
        UserError: If there is no whole checkpoint in ``folder`` or it does not fit the model.
    """
    from safetensors import SafetensorError, safe_open

    from recbole_lcrec.training.sharded import is_sharded, spread_weights

    if problem := damage(folder):
        raise UserError(f"{folder}: no readable checkpoint ({problem}). Train the run again.")
    if is_sharded(model):
        device = "cpu"  # whole weights may not fit where the shares go
    try:
        with safe_open(str(folder / WEIGHTS), framework="pt", device=str(device)) as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
        state = read_state(folder)
        weights.update({alias: weights[name] for alias, name in dict(aliases).items()})
        other = {key: unpack(value, device) for key, value in state.pop("other_parameter").items()}
    except (SafetensorError, *_UNREADABLE) as error:
        raise _unreadable(folder, error) from error
    try:
        if is_sharded(model):
            spread_weights(model, weights)
        elif isinstance(model, KeepsOwnWeights):
            model.load_checkpoint_state(weights)
        else:
            model.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"{folder}: the checkpoint does not fit the model ({reason_of(error)}). Train the run again."
        ) from error
    model.load_other_parameter(other)
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint holds in addition to the weights.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        # on the CPU: random states and an optimizer's step counts belong there, and it moves the rest itself
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"{STATE} holds a {type(state).__name__}")
    except _UNREADABLE as error:
        raise _unreadable(folder, error) from error
    return state


def _unreadable(folder: Path, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {reason_of(error)}"
    return UserError(f"{folder}: no readable checkpoint ({reason}). Train the run again.")


def _without_aliases(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Keep one name per tensor (tied weights have several); return the tensors and {alias: kept name}."""
    first: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in weights.items():
        tensor = tensor.detach()
        key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            tensors[name] = tensor.contiguous().cpu().clone()
    return tensors, aliases


def pack(name: str, value: Any) -> Any:
    """Turn an attribute of a RecBole model into what weights_only loading accepts."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"kind": "numpy", "data": torch.from_numpy(np.ascontiguousarray(value))}
    if scipy.sparse.issparse(value):
        csr = value.tocsr()
        arrays = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr}
        parts = {part: torch.from_numpy(np.ascontiguousarray(array)) for part, array in arrays.items()}
        return {"kind": "scipy", "format": value.format, "shape": list(csr.shape), **parts}
    if isinstance(value, (list, tuple)):
        return {"kind": type(value).__name__, "items": [pack(name, item) for item in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[pack(name, k), pack(name, v)] for k, v in value.items()]}
    raise TypeError(f"{name} is a {type(value).__name__}, which cannot be saved safely")


def unpack(value: Any, device: Any) -> Any:
    """Return what ``pack`` was given, tensors on ``device``."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "numpy":
        return value["data"].cpu().numpy()
    if kind == "scipy":
        parts = tuple(value[part].cpu().numpy() for part in ("data", "indices", "indptr"))
        return scipy.sparse.csr_matrix(parts, shape=tuple(value["shape"])).asformat(value["format"])
    if kind == "dict":
        return {unpack(key, device): unpack(item, device) for key, item in value["items"]}
    items = [unpack(item, device) for item in value["items"]]
    return items if kind == "list" else tuple(items)
