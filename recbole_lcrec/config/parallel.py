"""What a configuration has to know of processes and devices, and what several processes cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from recbole.trainer.trainer import DecisionTreeTrainer, NCLTrainer, PretrainTrainer, TraditionalTrainer
from recbole.utils import ModelType, get_trainer

from recbole_lcrec.config.registry import base_of
from recbole_lcrec.distributed import group
from recbole_lcrec.utils.errors import Mistakes, UserError
from recbole_lcrec.utils.program import program

_ALONE = {
    TraditionalTrainer: "counts or solves and has no gradients to share",
    DecisionTreeTrainer: "grows trees in a library of its own",
    NCLTrainer: "is trained by RecBole in a loop of its own",
    PretrainTrainer: "is pre-trained and tuned by RecBole in stages of its own",
}
"""RecBole's trainers that run in one process, and why."""


@runtime_checkable
class SharesWeights(Protocol):
    """A model class with a language model in ``lm`` whose weights FSDP can shard across processes.

    Attributes:
        shares_weights: Whether it can.
    """

    shares_weights: bool


def take_place(options: dict[str, Any]) -> None:
    """Set RecBole's nproc, world_size and local_rank to this process's place in its group.

    ``single_spec`` stays True: with False, RecBole would shard the data, reduce gradients and average metrics itself,
    in ways that drop or repeat rows; :mod:`recbole_lcrec.distributed` does that here.

    Raises:
        UserError: If several processes are asked for and this one is alone.
    """
    place = group.place()
    wanted = max(options.get("nproc") or 1, options.get("world_size") or 1)
    if wanted > 1 and not group.several():
        raise UserError(
            f"options nproc={options.get('nproc')}, world_size={options.get('world_size')} ask for several processes, "
            f"but this is one. They are started by the command line ({program()} --nproc=N) or by torchrun."
        )
    options["single_spec"], options["local_rank"] = True, place.local_rank
    options["nproc"], options["world_size"] = place.local_size, place.world_size
    if not group.is_main():
        options["show_progress"] = False


def check_parallel(config: Any, model_class: Any) -> None:
    """Refuse what several processes cannot do.

    Raises:
        UserError: Naming the option or the model.
    """
    if not group.several():
        return
    if config["parallel"] == "fsdp":
        _check_sharded(config, model_class)
    if config["stage"] == "index":
        raise UserError("option stage is index, which one process builds. Leave nproc out.")
    model = config["model"]
    trainer = get_trainer(config["MODEL_TYPE"], base_of(model))
    for kind_of_trainer, why in _ALONE.items():
        if issubclass(trainer, kind_of_trainer) or (
            kind_of_trainer is TraditionalTrainer and config["MODEL_TYPE"] == ModelType.TRADITIONAL
        ):
            raise UserError(f"model {model} {why}, so it runs in one process. Leave nproc out.")


def _check_sharded(config: Any, model_class: Any) -> None:
    """Refuse models and options that do not work with FSDP here.

    Raises:
        UserError: Naming the model or the option.
    """
    if not (isinstance(model_class, SharesWeights) and model_class.shares_weights):
        raise UserError(
            f"parallel=fsdp: {config['model']} has no causal language model to share out (LCRec, TALLRec and "
            "InstructRec have). Use parallel=ddp."
        )
    refused: list[tuple[str, Callable[[Any], bool], str]] = [
        ("tuning", lambda value: value == "lora", "the frozen weights need no gradients or state: use parallel=ddp"),
        ("torch_compile", bool, "leave it out"),
        ("ema_decay", bool, "set it to 0"),
        ("precision", lambda value: value == "fp16", "use bf16"),
        ("preference_stage", lambda value: value not in (None, "none"), "use parallel=ddp"),
    ]
    mistakes = Mistakes()
    for name, is_wrong, advice in refused:
        message = f"parallel=fsdp does not go with {name}={config[name]}: {advice}."
        mistakes.expect(not is_wrong(config[name]), message)
    mistakes.finish()


def device_of(options: dict[str, Any]) -> torch.device:
    """Return the device of ``use_gpu`` and ``gpu_id``; gpu_id counts the visible devices only."""
    gpu_id = str(options["gpu_id"])
    options["gpu_id"] = gpu_id
    if gpu_id and not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", gpu_id):
        raise UserError(f"option gpu_id is {gpu_id}; expected a number such as 0.")
    if not options["use_gpu"] or not gpu_id or not torch.cuda.is_available():
        return torch.device("cpu")
    index, place = _gpu([int(number) for number in gpu_id.split(",")]), group.place()
    if index >= torch.cuda.device_count():
        per = f" for the {place.local_size} processes" if group.several() else ""
        raise UserError(
            f"option gpu_id is {gpu_id}{per}, but {torch.cuda.device_count()} GPU(s) are visible, counted from 0. "
            "Set gpu_id, or use_gpu=False."
        )
    if group.several():
        torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _gpu(numbers: Sequence[int]) -> int:
    """Return the number of this process's GPU: its entry among several, or a single one plus its local rank."""
    place = group.place()
    if len(numbers) == 1 or not group.several():
        return numbers[0] + place.local_rank
    if len(numbers) < place.local_size:
        raise UserError(f"option gpu_id names {len(numbers)} GPU(s) for {place.local_size} processes.")
    return numbers[place.local_rank]
