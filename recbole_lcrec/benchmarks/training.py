"""Training tokens per second, against the plain recipe on the same model and samples.

The plain recipe right-pads random batches, computes logits at every position and uses the loss of transformers and the
AdamW of torch as they are. Each further row adds one thing that this package does. All but bf16 must give the loss and
the gradients of the plain recipe before anything is timed. Tokens are those of the samples, padding not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from recbole_lcrec.benchmarks.common import add_model_arguments, on_threads, tell
from recbole_lcrec.benchmarks.models import SIZES, make_lm, make_paths, make_prompts
from recbole_lcrec.benchmarks.peers import plain_loss
from recbole_lcrec.benchmarks.timing import side_by_side
from recbole_lcrec.data.batches import batches_by_length
from recbole_lcrec.instruction.loader import INPUT_IDS, LOSS_WEIGHTS, collate
from recbole_lcrec.instruction.prompts import Sample
from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings
from recbole_lcrec.training.optimization import fuse

SHARED, BATCH, BATCHES = 60, 16, 4
TOLERANCE = 1e-5
"""Largest relative difference of a loss from the plain recipe's."""


@dataclass(frozen=True)
class Recipe:
    """How a step is made.

    Attributes:
        name: Of the row.
        forward: Options of our training forward; None for the plain loss of transformers.
        buckets: Whether samples of similar length share a batch.
        fused: Whether the optimizer updates all weights in one kernel.
        bf16: Whether the forward runs under bfloat16 autocast.
    """

    name: str
    forward: SampleLogitsSettings | None
    buckets: bool = False
    fused: bool = False
    bf16: bool = False


_PLAIN_FORWARD = SampleLogitsSettings(
    lm_dropout=0.0,
    share_prefix=False,
    packing=False,
    gradient_checkpointing=False,
    torch_compile=False,
    max_length=256,
)
_OURS = Recipe("+ fused AdamW", _PLAIN_FORWARD, buckets=True, fused=True)
RECIPES = [
    Recipe("plain", None),
    Recipe("logits where there is loss", _PLAIN_FORWARD),
    Recipe("+ length buckets", _PLAIN_FORWARD, buckets=True),
    _OURS,
    replace(_OURS, name=f"+ {SHARED} shared tokens run once", forward=replace(_PLAIN_FORWARD, share_prefix=True)),
]
OPTIONS = [
    replace(_OURS, name="gradient_checkpointing", forward=replace(_PLAIN_FORWARD, gradient_checkpointing=True)),
    replace(_OURS, name="packing", forward=replace(_PLAIN_FORWARD, packing=True)),
    replace(_OURS, name="precision: bf16", bf16=True),
    replace(_OURS, name="torch_compile", forward=replace(_PLAIN_FORWARD, torch_compile=True)),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    add_model_arguments(parser, "weights and samples")
    parser.add_argument(
        "--options", action="store_true", help="Also time the options for large models, compilation too."
    )


def run(arguments: argparse.Namespace) -> None:
    """Check, measure, print a table and write ``--output``."""
    with on_threads(arguments):
        rows, difference = measure(arguments)
    message = f"Losses agree with the plain recipe's within {difference:.1e} (relative), gradients too."
    tell(arguments, rows, message, **{"largest difference": difference})


def measure(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], float]:
    """Return a row per recipe, and the largest relative difference of their losses."""
    samples = make_samples(SIZES[arguments.size].words, arguments.seed)
    recipes = RECIPES + (OPTIONS if arguments.options else [])
    steps = {recipe.name: Steps(recipe, arguments) for recipe in recipes}
    difference = max(check(step, steps["plain"], samples[:BATCH]) for step in steps.values())
    times = side_by_side({name: partial(step.run, samples) for name, step in steps.items()}, arguments.repeats)
    tokens = sum(len(sample.ids) for sample in samples)
    rows = []
    for name, time in times.items():
        row = {
            "recipe": name,
            "tokens/s": round(tokens / time.median),
            "times plain": times["plain"].median / time.median,
            "spread": time.spread,
        }
        if arguments.device.startswith("cuda"):
            row["peak GB"] = steps[name].peak / 1e9
        rows.append(row)
    return rows, difference


def make_samples(words: int, seed: int) -> list[Sample]:
    """Return samples of 120 to 200 tokens that begin alike, with a path and an end token as the response."""
    n_samples = BATCH * BATCHES
    prompts, paths = make_prompts(n_samples, words, SHARED, seed), make_paths(n_samples, words, seed).numpy()
    samples = []
    for prompt, path in zip(prompts, paths, strict=True):
        ids = np.concatenate([prompt[: -len(path) - 1], path, [2]]).astype(np.int32)
        weights = np.zeros(len(ids), np.float32)
        weights[-len(path) - 1 :] = 1
        samples.append(Sample(ids, weights))
    return samples


class Steps:
    """A model of its own, and training steps by a recipe."""

    def __init__(self, recipe: Recipe, arguments: argparse.Namespace) -> None:
        self.recipe, self.device, self.seed = recipe, torch.device(arguments.device), arguments.seed
        self.lm = make_lm(arguments.size, arguments.architecture, arguments.seed).to(self.device)
        self.lm.train()
        self.optimizer = torch.optim.AdamW(self.lm.parameters(), lr=1e-5)
        if recipe.fused:
            fuse(self.optimizer)
        self._logits = SampleLogits(self.lm, recipe.forward) if recipe.forward else None
        self.peak = 0

    def loss(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the mean cross-entropy of the response tokens of a batch."""
        batch = collate(list(samples), pad_id=0).to(self.device)
        ids, weights = batch[INPUT_IDS], batch[LOSS_WEIGHTS]
        lengths = torch.tensor([len(sample.ids) for sample in samples], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            if self._logits is None:
                return plain_loss(self.lm, ids, weights, lengths)
            where = torch.zeros_like(ids, dtype=torch.bool)
            where[:, :-1] = weights[:, 1:] > 0
            logits = self._logits(ids, where, lengths)
        return functional.cross_entropy(logits.float(), ids[:, 1:][where[:, :-1]])

    def run(self, samples: Sequence[Sample]) -> None:
        """Train on all samples once."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for batch in self._batches(samples):
            self.optimizer.zero_grad()
            self.loss(batch).backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated()

    def _batches(self, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        rng = np.random.default_rng(self.seed)
        lengths = np.array([len(sample.ids) for sample in samples])
        if self.recipe.buckets:
            batches = list(batches_by_length(lengths, BATCH, 1, rng, shuffle=True))
        else:
            batches = np.array_split(rng.permutation(len(samples)), len(samples) // BATCH)
        yield from ([samples[i] for i in batch] for batch in batches)


def check(steps: Steps, plain: Steps, samples: Sequence[Sample]) -> float:
    """Return how far the loss of a recipe is from the plain one, relative to it; 0 for reduced precision.

    Raises:
        RuntimeError: If loss or gradients differ by more than rounding.
    """
    if steps.recipe.bf16:
        return 0.0
    losses, gradients = [], []
    for side in (steps, plain):
        side.optimizer.zero_grad()
        loss = side.loss(samples)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in side.lm.parameters()]))
    difference = abs(losses[0] - losses[1]) / losses[1]
    of_gradients = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if difference > TOLERANCE or of_gradients > 100 * TOLERANCE:
        found = f"loss {difference:.1e}, gradients {of_gradients:.1e}"
        raise RuntimeError(f"training: '{steps.recipe.name}' differs from the plain recipe: {found}")
    return difference
