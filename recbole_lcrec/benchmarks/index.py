"""How long the uniform semantic mapping takes, and how much better it is than the published procedure.

Two catalogues of made-up latents with 4 levels of 256 codes: ``random``, where prefixes hold few items, and
``clustered``, where a twentieth of the prefixes in use hold more items than there are last codes. Both are made from
the seed alone. Every measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.benchmarks.processes import in_a_process, peak_rss
from recbole_lcrec.benchmarks.published import sinkhorn_paths
from recbole_lcrec.benchmarks.timing import environment
from recbole_lcrec.index.mapping import Mapping, unique_paths
from recbole_lcrec.quantizer.costs import nearest_codes, residual_costs
from recbole_lcrec.utils.files import write_json

SIZES = {"XS": 10_000, "S": 100_000, "M": 1_000_000}
KINDS = ("random", "clustered")
LEVEL_SIZES = (256, 256, 256, 256)

_DIM = 32
_OVER_FULL_SHARE = 0.05  # of the prefixes in use
_CROWD, _FEW = 384, 30  # items of an over-full prefix, and of another one, on average
_CHILDREN = 64  # prefixes in use under one parent of L-2 codes, on average


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    sizes = ", ".join(f"{name} = {size:,}" for name, size in SIZES.items())
    parser.add_argument("--size", choices=SIZES, default="XS", help=f"Items: {sizes}. Default XS.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of latents and codebooks. Default 0.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print tables and write ``--output``."""
    from tabulate import tabulate

    mapped = [in_a_process(measure, kind, SIZES[arguments.size], arguments.seed) for kind in KINDS]
    compared = [in_a_process(compare, kind, SIZES["XS"], arguments.seed) for kind in KINDS]
    about = environment("numpy", "scipy")
    result = {"size": arguments.size, "seed": arguments.seed, **about, "mapping": mapped, "compared": compared}
    print(tabulate(mapped, headers="keys", floatfmt=".2f"))
    print(f"\nAgainst the published procedure, {SIZES['XS']:,} items (rank 0 = nearest):")
    print(tabulate(compared, headers="keys", floatfmt=".3f"))
    print("\n" + ", ".join(f"{name}: {value}" for name, value in about.items()))
    if arguments.output:
        write_json(arguments.output, result)


def make_catalogue(kind: str, n_items: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return latents float32 [n_items, 32] and four codebooks float32 [256, 32] of a made-up catalogue.

    Args:
        kind: One of ``KINDS``.
        n_items: Items, 1,000 or more.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    scales = (1.0, 0.5, 0.25, 0.125)
    books = [(scale * rng.standard_normal((256, _DIM))).astype(np.float32) for scale in scales]
    if kind == "random":
        return 1.2 * rng.standard_normal((n_items, _DIM), dtype=np.float32), books
    assert kind == "clustered", kind
    average = _OVER_FULL_SHARE * _CROWD + (1 - _OVER_FULL_SHARE) * _FEW
    n_prefixes = max(20, round(n_items / average))
    n_parents = max(1, n_prefixes // _CHILDREN)
    parents = rng.integers(256, size=(n_parents, 2))
    prefixes = np.c_[parents[rng.integers(n_parents, size=n_prefixes)], rng.integers(256, size=n_prefixes)]
    weights = rng.uniform(0.5, 1.5, n_prefixes) * _FEW
    crowded = round(_OVER_FULL_SHARE * n_prefixes)
    weights[:crowded] = rng.uniform(0.75, 1.25, crowded) * _CROWD
    chosen = prefixes[rng.choice(n_prefixes, size=n_items, p=weights / weights.sum())]
    centres = sum(book[chosen[:, level]] for level, book in enumerate(books[:3]))
    return centres + scales[-1] * rng.standard_normal((n_items, _DIM), dtype=np.float32), books


def measure(kind: str, n_items: int, seed: int) -> dict[str, Any]:
    """Time nearest codes and mapping of one catalogue; the paths are checked before anything is reported."""
    latents, books = make_catalogue(kind, n_items, seed)
    started, cpu = time.perf_counter(), time.process_time()
    codes = nearest_codes(latents, books)
    nearest_seconds = time.perf_counter() - started
    mapping = unique_paths(codes, LEVEL_SIZES, residual_costs(latents, books))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    _check(mapping.codes, n_items)
    in_prefix = np.unique(codes[:, :-1], axis=0, return_counts=True)[1]
    return {
        "latents": kind,
        "items": n_items,
        "seconds": round(seconds, 2),
        "nearest codes s": round(nearest_seconds, 2),
        "CPU s": round(cpu_seconds, 2),
        "items/s": round(n_items / seconds),
        "peak RSS GB": round(peak_rss() / 1e9, 2),
        "prefixes": len(in_prefix),
        "over-full": round(float((in_prefix > LEVEL_SIZES[-1]).mean()), 4),
        "colliding": int(n_items - len(np.unique(codes, axis=0))),
        "moved": mapping.moved,
        "spilled": mapping.spilled,
    }


def compare(kind: str, n_items: int, seed: int) -> dict[str, Any]:
    """Compare the mapping with the published procedure: collisions left, rank of the last codes, and time."""
    latents, books = make_catalogue(kind, n_items, seed)
    codes = nearest_codes(latents, books)
    started = time.process_time()
    ours: Mapping = unique_paths(codes, LEVEL_SIZES, residual_costs(latents, books))
    our_seconds = time.process_time() - started
    _check(ours.codes, n_items)
    started = time.process_time()
    published = sinkhorn_paths(codes, latents, books)
    published_seconds = time.process_time() - started
    assert published.shape == codes.shape and ((published >= 0) & (published < 256)).all()
    assert (published[:, :-1] == codes[:, :-1]).all(), "the published procedure changes last codes only"
    return {
        "latents": kind,
        "items": n_items,
        "CPU s": round(our_seconds, 3),
        "published CPU s": round(published_seconds, 3),
        "times faster": round(published_seconds / our_seconds, 2),
        "without own path": n_items - len(np.unique(ours.codes, axis=0)),
        "published: without own path": n_items - len(np.unique(published, axis=0)),
        "rank of last code": _mean_rank(ours.codes, latents, books),
        "published: rank": _mean_rank(published, latents, books),
    }


def _check(codes: np.ndarray, n_items: int) -> None:
    assert len(np.unique(codes, axis=0)) == n_items, "every item has a path of its own"
    assert ((codes >= 0) & (codes < 256)).all()


def _mean_rank(codes: np.ndarray, latents: np.ndarray, books: list[np.ndarray]) -> float:
    """Return how many last codes are nearer to an item than its own under its prefix, on average."""
    prices = residual_costs(latents, books)(np.arange(len(codes)), codes[:, :-1])
    own = np.take_along_axis(prices, codes[:, -1:], axis=1)
    return round(float((prices < own).sum(axis=1).mean()), 3)
