"""What a large catalogue and many interactions cost: data set, samples, trie, decoding, evaluation.

A made-up catalogue with titles, and users who walk through it, take the path of every run: RecBole's data set and
split, item index (random paths: building one is benchmark ``index``), tokenizer, samples of an epoch, trie, and the
validation of some users with a small untrained language model. The decoding step is compared with that of a catalogue
of 10,000 items on the same prompts. Each part runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.benchmarks.models import SIZES as MODELS
from recbole_lcrec.benchmarks.models import make_lm, make_paths, make_prompts
from recbole_lcrec.benchmarks.processes import in_a_process, peak_rss
from recbole_lcrec.benchmarks.timing import environment, side_by_side
from recbole_lcrec.utils.files import write_json

SIZES = {"XS": 10_000, "S": 100_000, "M": 1_000_000}
REFERENCE, USERS_TOGETHER = 10_000, 8
PER_USER = 12
"""Interactions of a user; there is a user for every ten items, so every item occurs at least once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    sizes = ", ".join(f"{name} = {size:,}" for name, size in SIZES.items())
    parser.add_argument("--size", choices=SIZES, default="XS", help=f"Items: {sizes}. Default XS.")
    parser.add_argument("--test-users", type=int, default=512, help="Users of the evaluation. Default 512.")
    parser.add_argument("--repeats", type=int, default=5, help="Timed rounds of decoding. Default 5.")
    parser.add_argument("--seed", type=int, default=0, help="Of everything. Default 0.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print tables and write ``--output``."""
    from tabulate import tabulate

    n_items = SIZES[arguments.size]
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(Path(folder), n_items, arguments.seed)
        stages = in_a_process(measure_run, folder, arguments.test_users)
        file = Path(folder) / "paths.npy"
        np.save(file, make_paths(n_items, MODELS["S"].words, arguments.seed).numpy())
        trie = in_a_process(measure_trie, str(file))
    decoding = in_a_process(measure_decoding, n_items, arguments.repeats, arguments.seed)
    about = environment("torch", "recbole")
    for part in (stages, trie, decoding):
        print(tabulate(part.items(), floatfmt=".2f"))
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    if arguments.output:
        parts = {"run": stages, "trie": trie, "decoding": decoding}
        write_json(arguments.output, {"size": arguments.size, "seed": arguments.seed, **about, **parts})


def write_catalogue(folder: Path, n_items: int, seed: int) -> None:
    """Write atomic files of a data set "large": every item once, then walks to near items, times in order.

    Args:
        folder: Where the data set's folder goes.
        n_items: Items; a tenth as many users.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    n_users = n_items // 10
    first = rng.permutation(n_items)[: n_users * 10].reshape(n_users, 10)
    more = (first[:, -1:] + rng.integers(1, 50, size=(n_users, PER_USER - 10))) % n_items
    items = np.concatenate([first, more], axis=1)
    kinds, things = ("red", "oak", "soft", "small", "steel"), ("lamp", "chair", "cup", "toy")
    words = np.array([kind + thing for kind in kinds for thing in things])
    target = folder / "large"
    target.mkdir(parents=True)
    with (target / "large.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, row in enumerate(items.tolist()):
            file.write("".join(f"u{user}\ti{item}\t{time}\n" for time, item in enumerate(row)))
    chosen = words[rng.integers(len(words), size=(n_items, 4))]
    with (target / "large.item").open("w", encoding="utf-8") as file:
        file.write("item_id:token\ttitle:token_seq\n")
        file.writelines(f"i{item}\t{' '.join(row)} {item % 997}\n" for item, row in enumerate(chosen.tolist()))


def measure_run(folder: str, test_users: int) -> dict[str, Any]:
    """Build everything that a run builds, an epoch's samples included, and evaluate some users."""
    from recbole_lcrec.experiment import build

    started, cpu = time.perf_counter(), time.process_time()
    options = {
        "data_path": folder,
        "cache_dir": f"{folder}/cache",
        "output_dir": f"{folder}/out",
        "quantizer": "random",
        "valid_users": test_users,
        "task_samples": None,
        "show_progress": False,
        "state": "WARNING",
        "use_gpu": False,
    }
    experiment = build("LCRec", "large", options)
    built, building_memory = time.process_time() - cpu, peak_rss()
    cpu = time.process_time()
    samples = experiment.train_data.samples.build(0)
    sampled, sampling_memory, n_samples = time.process_time() - cpu, peak_rss(), len(samples)
    del samples  # as in a run, where an epoch's samples are gone when it is validated
    experiment.model.eval()
    cpu = time.process_time()
    result = experiment.evaluate("valid")
    evaluated, n_users = time.process_time() - cpu, len(experiment.valid_data._dataset.inter_feat)
    assert result is not None and n_samples > 0
    return {
        "items": experiment.dataset.item_num - 1,
        "interactions": PER_USER * (experiment.dataset.user_num - 1),
        "built, CPU s": built,
        "built, peak GB": building_memory / 1e9,
        "samples": n_samples,
        "samples, CPU s": sampled,
        "samples/s": round(n_samples / sampled),
        "samples, peak GB": sampling_memory / 1e9,
        "users evaluated": n_users,
        "evaluated, CPU s": evaluated,
        "users/s evaluated": n_users / evaluated,
        "evaluated, peak GB": peak_rss() / 1e9,
        "wall s": time.perf_counter() - started,
    }


def measure_trie(file: str) -> dict[str, Any]:
    """Time the building of a trie; the paths are read, since making them takes more memory than the trie does."""
    import torch

    from recbole_lcrec.decoding import TokenTrie

    torch.set_num_threads(1)
    paths = torch.from_numpy(np.load(file))
    started, before = time.process_time(), peak_rss()
    trie = TokenTrie(paths)
    seconds = time.process_time() - started
    return {"items": trie.n_items, "trie, CPU s": seconds, "trie, MB": (peak_rss() - before) / 1e6}


def measure_decoding(n_items: int, repeats: int, seed: int) -> dict[str, Any]:
    """Time decoding in a large catalogue and in a small one."""
    import torch

    from recbole_lcrec.decoding import TokenTrie, constrained_beam_search
    from recbole_lcrec.instruction.loader import left_pad

    torch.set_num_threads(1)
    words = MODELS["S"].words
    lm = make_lm("S", seed=seed)
    tries = {name: TokenTrie(make_paths(n, words, seed)) for name, n in (("small", REFERENCE), ("large", n_items))}
    ids, mask = left_pad(make_prompts(USERS_TOGETHER, words, 60, seed), 0)
    sides = {name: partial(constrained_beam_search, lm, ids, mask, tree, 20) for name, tree in tries.items()}
    times = side_by_side(sides, repeats)
    return {
        "items": n_items,
        "users/s": USERS_TOGETHER / times["large"].median,
        f"times the seconds of {REFERENCE:,} items": times["large"].median / times["small"].median,
        "spread": max(time.spread for time in times.values()),
    }
