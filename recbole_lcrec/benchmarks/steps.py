"""Where the time of a training step goes, and what share of it the processor needs at the least.

A run is built as its command would build it, and some steps of its first epoch are taken apart: making the batch
(data), the model's body (forward), what follows the body of a language model, its logits and the loss (head),
backward, and the optimizer with the clipping. The floor is the time that the step's matrix products, counted by torch,
would take at the rate of one large product on the same machine: what is above it is elementwise work, memory, products
too small to be fast, and Python.

On a CPU the seconds are CPU time, so that a busy machine matters less; on a GPU they are wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from recbole_lcrec.benchmarks.common import on_threads, tell
from recbole_lcrec.data.batches import on_device
from recbole_lcrec.utils.errors import UserError

PARTS = ("data", "forward", "head", "backward", "optimizer")
WARM_UP = 2
_SIZE, _TRIES = 1024, 5
"""Size of the product whose rate sets the floor, and tries, of which the best counts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    parser.add_argument("--model", required=True, help="A model of this package or of RecBole, e.g. LCRec.")
    parser.add_argument("--dataset", default="ml-100k", help="A data set. Default ml-100k.")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="Options of the run, e.g. train_batch_size=32."
    )
    parser.add_argument("--steps", dest="repeats", type=int, default=10, help="Timed steps. Default 10.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch. Default 1.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda. Default cpu.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write ``--output``."""
    with on_threads(arguments), tempfile.TemporaryDirectory() as folder:
        seconds, flops, rate = measure(arguments, folder)
    whole = sum(seconds.values())
    floor = flops / rate
    rows = [{"part": name, "ms": 1e3 * part, "share": part / whole} for name, part in seconds.items() if part]
    rows.append({"part": "a step", "ms": 1e3 * whole, "share": 1.0})
    rows.append({"part": "floor", "ms": 1e3 * floor, "share": floor / whole})
    message = (
        f"Floor: {flops / 1e9:.2f} GFLOP of matrix products a step, at {rate / 1e9:.0f} GFLOP/s of a product of "
        f"{_SIZE} x {_SIZE}: {floor / whole:.0%} of the step."
    )
    tell(arguments, rows, message, gflop=flops / 1e9, gflop_per_second=rate / 1e9, floor_share=floor / whole)


def measure(arguments: argparse.Namespace, folder: str) -> tuple[dict[str, float], float, float]:
    """Return the seconds of each part of a step, its floating-point operations, and the rate of the machine.

    Args:
        arguments: Of the benchmark.
        folder: Where the run writes; nothing of it is kept.
    """
    from recbole_lcrec.experiment import build

    options: dict[str, Any] = dict(_option(text) for text in arguments.set)
    options |= {"output_dir": f"{folder}/out", "show_progress": False, "state": "WARNING"}
    options |= {"use_gpu": arguments.device.startswith("cuda")}
    experiment = build(arguments.model, arguments.dataset, cli={"cache_dir": f"{folder}/cache", **options})
    steps = StepParts(experiment.trainer, experiment.model)
    batches = iter(experiment.train_data)
    taken: list[Any] = []
    seconds = dict.fromkeys(PARTS, 0.0)
    for number in range(WARM_UP + arguments.repeats):
        if number == WARM_UP:
            seconds = dict.fromkeys(PARTS, 0.0)
        with steps.timed("data", seconds):
            batch = next(batches, None)
        if batch is None:
            if number <= WARM_UP:
                raise UserError(f"profile: an epoch of {arguments.dataset} has {number} batches. Use a smaller batch.")
            break
        steps.step(batch, seconds)
        taken.append(batch)
    timed = taken[WARM_UP:]
    flops = sum(map(steps.flops, timed)) / len(timed)
    return {name: part / len(timed) for name, part in seconds.items()}, flops, steps.rate()


def _option(text: str) -> tuple[str, str]:
    name, is_given, value = text.partition("=")
    if not is_given:
        raise UserError(f"profile: --set {text}: expected NAME=VALUE.")
    return name, value


class StepParts:
    """A trainer's steps, taken apart.

    Args:
        trainer: A trainer of this package.
        model: Its model, which is trained here.
    """

    def __init__(self, trainer: Any, model: Any) -> None:
        self._trainer, self._model = trainer, model.train()
        self._device: torch.device = trainer.device
        self._body_ended: float | None = None
        for module in _bodies(model):
            module.register_forward_hook(self._note)

    def _note(self, *_: Any) -> None:
        self._body_ended = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def timed(self, part: str, seconds: dict[str, float]) -> Iterator[None]:
        """Add the seconds that a block takes to those of a part."""
        before = self._now()
        yield
        seconds[part] += self._now() - before

    def step(self, batch: Any, seconds: dict[str, float]) -> None:
        """Train on a batch and add the seconds of each part."""
        self._trainer.optimizer.zero_grad()
        began, self._body_ended = self._now(), None
        loss = self._loss(batch)
        ended = self._now()
        body_ended = ended if self._body_ended is None else self._body_ended
        seconds["forward"] += body_ended - began
        seconds["head"] += ended - body_ended
        with self.timed("backward", seconds):
            loss.backward()
        with self.timed("optimizer", seconds):
            if self._trainer.clip_grad_norm:
                clip_grad_norm_(self._model.parameters(), **self._trainer.clip_grad_norm)
            self._trainer.optimizer.step()

    def _loss(self, batch: Any) -> torch.Tensor:
        with self._trainer.autocast():
            losses = self._model.calculate_loss(on_device(batch, self._device))
        loss: Any = sum(losses) if isinstance(losses, tuple) else losses
        return loss

    def flops(self, batch: Any) -> int:
        """Return the floating-point operations of a batch's forward and backward, as torch counts them."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._loss(batch).backward()
        return int(counter.get_total_flops())

    def rate(self) -> float:
        """Return the floating-point operations per second of one large product in the trainer's precision."""
        with self._trainer.autocast():
            a, b = torch.randn(2, _SIZE, _SIZE, device=self._device)
            best = float("inf")
            for _ in range(_TRIES):
                before = self._now()
                a @ b
                best = min(best, self._now() - before)
        return 2 * _SIZE**3 / best


def _bodies(model: Any) -> list[Any]:
    """Return the modules of a language model before its head; none for other models."""
    lm = dict(model.named_children()).get("lm")
    if lm is None:
        return []
    from recbole_lcrec.decoding.architecture import base_model

    inner = base_model(lm)
    parts = dict(inner.named_children())
    return [parts[name] for name in (inner.base_model_prefix, "encoder", "decoder") if name in parts]
