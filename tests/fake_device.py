"""An accelerator that is not there: tensors on it compute on the CPU and refuse to meet tensors of the CPU.

They call their device "meta", which every build of torch knows. What a GPU allows is allowed here too: numbers
(tensors without dimensions) and indices may lie on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")

_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}


class Far(torch.Tensor):
    """A tensor on the accelerator; ``near`` holds its values."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        assert not isinstance(near, Far)
        made = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            layout=near.layout, device=DEVICE, requires_grad=near.requires_grad,
        )  # fmt: skip
        made.near = near
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"Far({self.near!r})"


@contextmanager
def fake_device() -> Iterator[None]:
    """Let ``device="meta"`` mean the accelerator inside."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.nn.Module, "to", _move))
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):  # autocast there is that of the CPU
            stack.enter_context(mock.patch.object(torch, name, _of_cpu(getattr(torch, name))))
        stack.enter_context(_Factories())
        stack.enter_context(_Reads())
        yield


def _of_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(device: str, *arguments: Any, **options: Any) -> Any:
        return function("cpu" if device == DEVICE.type else device, *arguments, **options)

    return called


_to = torch.nn.Module.to


def _move(model: torch.nn.Module, *arguments: Any, **options: Any) -> torch.nn.Module:
    """Move a model as torch moves it to a GPU: in place, and weights that are tied stay tied."""
    if not arguments or not isinstance(arguments[0], torch.device | str) or not _is_far(arguments[0]):
        return _to(model, *arguments, **options)
    moved: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and not isinstance(weight, Far):
                far = moved.setdefault(id(weight), torch.nn.Parameter(Far(weight.detach()), weight.requires_grad))
                module._parameters[name] = far
        for name, values in module._buffers.items():
            module._buffers[name] = _wrapped(values)
    return model


class _Factories(TorchDispatchMode):
    """Makes and moves tensors."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Reads(TorchFunctionMode):
    """Reads and writes values where torch would look for those of a meta tensor, which has none."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.tolist and isinstance(args[0], Far):
            return args[0].near.tolist()
        if function in (torch.tensor, torch.as_tensor) and _is_far(kwargs.get("device")):
            return function(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return function(*args, **kwargs)


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    far = any(isinstance(tensor, Far) for tensor in tensors)
    near = [tensor for tensor in tensors if not isinstance(tensor, Far) and tensor.dim()]
    if far and near and function not in _COPIES:
        may_be_near = _INDEXING if isinstance(args[0], Far) else set()
        if function not in may_be_near:
            raise RuntimeError(f"{function}: tensors of the CPU and of the accelerator")
    if kwargs.get("device") is not None:
        far = _is_far(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inner_args, inner_kwargs = tree_map(_near, (args, kwargs))
    found = function(*inner_args, **inner_kwargs)
    if function._schema.name.endswith("_") and not function._schema.name.endswith("__"):
        return args[0]
    return tree_map(lambda value: _wrapped(value) if far else value, found)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


def _wrapped(value: Any) -> Any:
    return Far(value) if isinstance(value, torch.Tensor) and not isinstance(value, Far) else value
