"""Users per second of constrained decoding, against transformers' generate on the same model and catalogue.

Before anything is timed, both must find the same items in the same order; two items may swap places if their scores
differ by no more than rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from recbole_lcrec.benchmarks.common import add_model_arguments, on_threads, tell
from recbole_lcrec.benchmarks.models import CODES, LEVELS, SIZES, make_lm, make_paths, make_prompts
from recbole_lcrec.benchmarks.peers import GenerateSearch
from recbole_lcrec.benchmarks.timing import side_by_side
from recbole_lcrec.decoding import LevelSoftmax, SharedPrefix, Softmax, TokenTrie, constrained_beam_search
from recbole_lcrec.instruction.loader import left_pad
from recbole_lcrec.utils.progress import progress

NUM_BEAMS, SHARED, ITEMS = 20, 60, 10_000
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = 1e-4
"""Most that scores may differ from generate's, and from each other where items swap places."""

Search = Callable[[Sequence[np.ndarray]], tuple[torch.Tensor, torch.Tensor]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    add_model_arguments(parser, "weights, paths and prompts")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="Users decoded together. Default 1 8.")
    parser.add_argument("--check-users", type=int, default=200, help="Users whose items are compared. Default 200.")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="Default float32.")


def run(arguments: argparse.Namespace) -> None:
    """Check, measure, print a table and write ``--output``."""
    with on_threads(arguments, batches=min(arguments.batches), check_users=arguments.check_users):
        rows, checked = measure(arguments)
    message = "Same items as generate: " + ", ".join(f"{name} {value}" for name, value in checked.items())
    tell(arguments, rows, message, checked=checked)


def measure(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row per batch size and side, and what the check found."""
    words = SIZES[arguments.size].words
    lm = make_lm(arguments.size, arguments.architecture, arguments.seed)
    lm = lm.to(arguments.device, DTYPES[arguments.dtype])
    paths = make_paths(ITEMS, words, arguments.seed)
    prompts = make_prompts(max(arguments.check_users, *arguments.batches), words, SHARED, arguments.seed)
    searches = make_searches(lm, paths, words, arguments.device)
    checked = compare(searches, prompts[: arguments.check_users], exact=arguments.dtype == "float32")
    rows = []
    for batch in arguments.batches:
        users = prompts[: max(batch, 4)]
        sides = {name: partial(in_batches, search, users, batch) for name, search in searches.items()}
        times = side_by_side(sides, arguments.repeats)
        for name, time in times.items():
            rows.append(
                {
                    "users together": batch,
                    "side": name,
                    "users/s": len(users) / time.median,
                    "times generate": times["generate"].median / time.median,
                    "spread": time.spread,
                }
            )
    return rows, checked


def make_searches(lm: Any, paths: torch.Tensor, words: int, device: str) -> dict[str, Search]:
    """Return the sides: prompts -> (items, scores), each [B, 20]."""
    generate = GenerateSearch(lm, paths, NUM_BEAMS)
    trie = TokenTrie(paths).to(device)
    first = torch.arange(CODES, device=device) + words
    levels = [first + CODES * level for level in range(LEVELS)]
    prefixes: dict[int, SharedPrefix] = {}

    def padded(prompts: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = left_pad(list(prompts), 0)
        return ids.to(device), mask.to(device)

    def with_generate(prompts: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        return generate(*padded(prompts))

    def ours(prompts: Sequence[np.ndarray], shared: int, softmax: Softmax) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.from_numpy(prompts[0][:shared]).long()
        prefix = prefixes.setdefault(shared, SharedPrefix(ids))
        rests, mask = padded([prompt[shared:] for prompt in prompts])
        return constrained_beam_search(lm, rests, mask, trie, NUM_BEAMS, prefix=prefix, softmax=softmax)

    return {
        "generate": with_generate,
        "ours": partial(ours, shared=0, softmax=Softmax()),
        f"ours, {SHARED} tokens shared": partial(ours, shared=SHARED, softmax=Softmax()),
        f"ours, {SHARED} tokens shared, level": partial(ours, shared=SHARED, softmax=LevelSoftmax(levels)),
    }


def in_batches(search: Search, prompts: Sequence[np.ndarray], batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return items and scores of all prompts on the CPU, searched ``batch`` at a time."""
    found = [search(prompts[start : start + batch]) for start in range(0, len(prompts), batch)]
    items, scores = zip(*found, strict=True)
    return torch.cat(items).cpu(), torch.cat(scores).float().cpu()


def compare(searches: dict[str, Search], prompts: Sequence[np.ndarray], exact: bool) -> dict[str, Any]:
    """Compare every side that computes the paper's scores with generate.

    Raises:
        RuntimeError: If items or scores differ by more than rounding; not checked unless ``exact``.
    """
    sides = [name for name in searches if not name.endswith("level")]
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in sides}
    for start in progress(range(0, len(prompts), 8), description="Check", show=True):
        for name in sides:
            found[name].append(searches[name](prompts[start : start + 8]))
    results = {name: [torch.cat(part).cpu() for part in zip(*parts, strict=True)] for name, parts in found.items()}
    swaps, difference = 0, 0.0
    for name in sides[1:]:
        swaps_here, difference_here = differences(results[name], results["generate"])
        swaps, difference = max(swaps, swaps_here), max(difference, difference_here)
    if exact and difference > TOLERANCE:
        raise RuntimeError(f"decoding: scores differ from generate's by {difference:.1e}, more than {TOLERANCE}")
    return {"users": len(prompts), "largest difference of scores": difference, "places that differ": swaps}


def differences(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> tuple[int, float]:
    """Return how many places hold different items, and the largest difference of scores, place by place or by item.

    An item at another place counts with the difference of its two scores; an item that only the other side has, with
    that of its score to the last one found.

    Args:
        found: Items and scores, both [B, K], best first.
        wanted: Those of the other side.
    """
    (items, scores), (expected_items, expected) = found, wanted
    scores, expected = scores.double(), expected.double()
    difference = float((scores - expected).abs().max())
    swaps = (items != expected_items).nonzero().tolist()
    for row, place in swaps:
        at = (items[row] == expected_items[row, place]).nonzero().flatten()
        score = scores[row, at[0]] if len(at) else scores[row, -1]
        difference = max(difference, abs(float(score - expected[row, place])))
    return len(swaps), difference
