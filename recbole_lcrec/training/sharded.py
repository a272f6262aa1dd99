"""FSDP (torch's ``fully_shard``): each process holds a share of the language model, for models too large for a device.

In training every block's weights are gathered when it runs and freed afterwards; gradients and optimizer state exist
in shares only. For an evaluation the weights are gathered once and kept until it ends: decoding runs every block many
times, and processes with other users run them a different number of times, so gathering per block would take far
longer and could not be kept in step. So a device has to hold the weights in float32 (4 bytes per parameter) while it
evaluates, instead of the 16 bytes of weights, gradients and Adam's state in training without FSDP.

Checkpoints are whole: those of one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.decoding.architecture import base_model, blocks_of
from recbole_lcrec.decoding.cache import without_shortcut
from recbole_lcrec.distributed import group
from recbole_lcrec.training.team import Alone, Replicated, Several
from recbole_lcrec.utils.errors import UserError


def is_sharded(model: Any) -> bool:
    """Return whether a model's weights are sharded across the processes."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


class Sharded(Several):
    """Each process holds a share of every weight.

    Args:
        model: A model with a language model ``lm``, on the CPU: blocks move to the device one by one.
        device: The process's device.

    Raises:
        UserError: For an architecture whose blocks are not found.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(model)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(device.type, (self._place.world_size,))
        for block in shared_blocks(model.lm):  # type: ignore[arg-type]
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model.to(device)  # buffers, and what the blocks do not hold
        model.wake = _nothing  # type: ignore[assignment]
        for method in ("calculate_loss", "wake"):
            register_fsdp_forward_method(model, method)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """While the block runs, hold all weights, as a single process does, and exchange nothing."""
        from torch.distributed.fsdp import FSDPModule

        root: Any = self._model
        root.wake()  # FSDP takes the first module that runs for the root
        parts: list[Any] = [module for module in root.modules() if isinstance(module, FSDPModule)]
        root.set_reshard_after_forward(False)
        for part in parts:
            part.unshard()
        try:
            with without_shortcut():
                yield
        finally:
            root.set_reshard_after_forward(True)
            root.set_reshard_after_forward(False, recurse=False)  # its weights are needed again at once
            for part in parts:
                part.reshard()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return the whole state by parameter name, on rank 0; {} on the others."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return dict(get_optimizer_state_dict(self._model, optimizer, options=_whole()))

    def load_optimizer(self, optimizer: Any, state: dict[str, Any]) -> None:
        """Take this process's share of what ``optimizer_state`` returned."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        for group_of_parameters in optimizer.param_groups:  # the schedule adds it at the first step
            group_of_parameters.setdefault("initial_lr", group_of_parameters["lr"])
        set_optimizer_state_dict(self._model, optimizer, state, options=_whole())


def _nothing() -> None:
    """Do nothing."""


def _whole() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a sharded model's state dict as one process would have it, on rank 0; {} on the others."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    weights: dict[str, Any] = dict(get_model_state_dict(model, options=_whole()))
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if weights and kept != name:  # tied weights are one tensor, of which a checkpoint keeps one
            weights[name] = weights[kept]
    return weights


def spread_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load a whole state dict, of which each process takes its share."""
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    set_model_state_dict(model, dict(weights), options=_whole())


def shared_blocks(lm: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of a causal language model.

    Raises:
        UserError: If no list of modules has one per layer.
    """
    if not (blocks := blocks_of(lm)):
        raise UserError(
            f"parallel=fsdp: the blocks of {type(base_model(lm)).__name__} are not found. Use parallel=ddp."
        )
    return blocks


def team_for(model: nn.Module, config: Any) -> Alone:
    """Return how the processes train ``model`` (option ``parallel``)."""
    run = RunOptions(config)
    if not group.several():
        return Alone()
    if run.parallel == "ddp":
        return Replicated(model)
    return Sharded(model, run.device)
