"""``precision: auto`` and ``attention: auto``: what is fastest here is found by doing it.

Which number format pays depends on the processor, the model's width and the kernels of the libraries: bfloat16 is four
times as fast for one model and slower for the next on the same machine. So a batch of the training is run forward and
backward in each candidate. The choice goes into the run's configuration, and a resumed run keeps it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch

from recbole_lcrec.data.batches import on_device
from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.distributed import group
from recbole_lcrec.model.interface import CountsEpochs, PreviewsBatches
from recbole_lcrec.model.lm import use_attention
from recbole_lcrec.training.randomness import random_states, set_random_states
from recbole_lcrec.training.training_settings import AUTO, HALF_WEIGHTS, precisions_of
from recbole_lcrec.utils.bfloat16 import native_bfloat16

logger = logging.getLogger(__name__)

GAIN = 0.9
"""Largest share of a plainer candidate's time that a less plain one may take: a smaller gain is not worth rounding."""
_ENOUGH_SECONDS, _MOST_ROUNDS, _ROUNDS_OF_SEVERAL = 5.0, 5, 2
_BATCHES = 4  # of these the largest is measured
_NEAR = 0.1
"""Largest relative difference between the losses of a candidate and of the first."""


@dataclass
class Candidate:
    """One way to train.

    Attributes:
        name: Value of the option.
        loss: Returns the loss of the batch, computed this way.
        seconds: Time of its fastest step so far.
        value: Loss of its last step.
        problem: Why it cannot be used; "" if it can.
    """

    name: str
    loss: Callable[[], torch.Tensor]
    seconds: float = math.inf
    value: float = math.nan
    problem: str = ""


def unmeasured(config: Any) -> list[str]:
    """Return the names of the options that are ``auto``."""
    return [name for name in ("precision", "attention") if name in config and config[name] == AUTO]


def measured(trainer: Any, loader: Any, config: Any) -> dict[str, str]:
    """Choose the values of the options that are ``auto``, by trial steps of a training that is about to begin.

    Weights, random generators and the loader are left as they were; the trainer and its model use what was chosen.

    Args:
        trainer: The trainer.
        loader: Its train loader.
        config: The experiment's configuration.

    Returns:
        Option -> value.
    """
    asked = unmeasured(config)
    states = random_states(loader)
    batch = on_device(_batch(loader), trainer.device)
    model, chosen = trainer.model, {}
    model.train()
    trainer.use_precision("fp32" if "precision" in asked else config["precision"])
    if "precision" in asked:
        # under LoRA bf16_weights is about memory: it would round the frozen weights for good
        lora = "tuning" in config and config["tuning"] == "lora"
        names = [name for name in precisions_of(config) if not (lora and name == HALF_WEIGHTS)]
        if group.from_main(native_bfloat16(trainer.device)):
            chosen["precision"] = _fastest(
                "precision", names, partial(_in_precision, trainer, batch), model, trainer.device
            )
        else:  # emulated, a step in bfloat16 could take an hour
            chosen["precision"] = names[0]
            logger.info("precision=auto: %s, as this processor or GPU has no bfloat16 arithmetic.", names[0])
        trainer.use_precision(chosen["precision"])
    if "attention" in asked:
        chosen["attention"] = _fastest(
            "attention", ("sdpa", "eager"), partial(_with_attention, trainer, batch), model, trainer.device
        )
        use_attention(_inner(model), chosen["attention"])
    set_random_states(states, loader)
    return chosen


def _batch(loader: Any) -> Any:
    """Return the largest of the first epoch's first batches."""
    if isinstance(loader, CountsEpochs):
        loader.set_epoch(0)
    previews = isinstance(loader, PreviewsBatches)
    first = loader.first_batches(_BATCHES) if previews else list(islice(loader, _BATCHES))
    return max(first, key=lambda batch: max(batch[name].numel() for name in batch.columns))


def _in_precision(trainer: Any, batch: Any, name: str) -> torch.Tensor:
    trainer.use_precision(name)
    return _sum(trainer.losses_of(batch, trainer.model.calculate_loss))


def _with_attention(trainer: Any, batch: Any, name: str) -> torch.Tensor:
    use_attention(_inner(trainer.model), name)
    return _sum(trainer.losses_of(batch, trainer.model.calculate_loss))


def _sum(losses: Any) -> torch.Tensor:
    return torch.stack(losses).sum() if isinstance(losses, tuple) else losses


def _inner(model: Any) -> Any:
    return base_model(model.lm)


def _fastest(
    option: str, names: Sequence[str], loss: Callable[[str], torch.Tensor], model: Any, device: torch.device
) -> str:
    """Return the candidate to take; all processes take that of the first.

    Candidates take turns, so that other load on the machine affects all of them alike.
    """
    candidates = [Candidate(name, partial(loss, name)) for name in names]
    start = time.perf_counter()
    for number in range(1 + (_ROUNDS_OF_SEVERAL if group.several() else _MOST_ROUNDS)):
        for one in candidates:
            if not one.problem:
                _run(one, model, device, counts=number > 0)
        # several processes exchange weights in every step, so all of them have to do equally many
        if number and not group.several() and time.perf_counter() - start > _ENOUGH_SECONDS:
            break
    plain = candidates[0]
    for one in candidates[1:]:
        if not one.problem and not abs(one.value - plain.value) <= _NEAR * abs(plain.value):
            one.problem = f"its loss is {one.value:.4g}, not {plain.value:.4g}"
    chosen = plain
    for one in candidates[1:]:
        if not one.problem and one.seconds < GAIN * chosen.seconds:
            chosen = one
    name = group.from_main(chosen.name)
    times = ", ".join(f"{one.name} {one.problem or f'{one.seconds:.3g}'}" for one in candidates)
    logger.info(
        "%s=auto: %sseconds of a batch, forward and backward: %s. Chosen: %s.",
        option, "" if device.type == "cuda" else "CPU ", times, name,
    )  # fmt: skip
    return name


def _run(candidate: Candidate, model: Any, device: torch.device, *, counts: bool) -> None:
    """Run a step of a candidate; note its time, or why it cannot be used."""
    torch.manual_seed(0)  # the same dropout for all
    # CPU time of other processes is not the candidate's
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    try:
        loss = candidate.loss()
        loss.backward()
        candidate.value = float(loss.detach())
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # also out of memory
        candidate.problem = f"fails ({type(error).__name__})"
        logger.debug("%s", error)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if counts:
        candidate.seconds = min(candidate.seconds, clock() - start)
    model.zero_grad(set_to_none=True)
