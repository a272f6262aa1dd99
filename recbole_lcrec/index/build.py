"""From embeddings or training interactions to the item index: quantizer, then mapping, kept in the cache.

The quantizer's nearest codes may give items the same path. Option ``index_mapping`` says how they are separated:
``optimal`` is the uniform semantic mapping; ``digit`` keeps the nearest codes and adds a last level that numbers the
items of each path in catalogue order (TIGER, Rajput et al. 2023, Sec. 3.1), the ablation without uniform mapping.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.config.registry import QUANTIZERS
from recbole_lcrec.embedding.collaborative import flat_sequences
from recbole_lcrec.index.item_index import ItemIndex, check_capacity
from recbole_lcrec.index.loading import load_index
from recbole_lcrec.index.mapping import Mapping, unique_paths
from recbole_lcrec.quantizer import (
    Inputs,
    Quantizer,
    QuantizerSettings,
    fit_quantizer,
    load_quantizer,
    quantizer_class,
)
from recbole_lcrec.quantizer.autoencoder import uses_bfloat16
from recbole_lcrec.quantizer.measures import collision_rate, perplexity
from recbole_lcrec.quantizer.quantizer_settings import MAX_LEVELS, check_tokens
from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.errors import Mistakes, UserError
from recbole_lcrec.utils.files import fingerprint, write_json

logger = logging.getLogger(__name__)

INDEX, REPORT = "index.json", "report.json"
_ALGORITHM = 3  # part of the key: raise it when the same inputs should give another index


@dataclass(frozen=True)
class IndexSettings(StageSettings):
    """Options of the item index; each is explained in properties/index.yaml."""

    index_file: str | None
    index_collisions: str
    index_missing: str
    index_mapping: str


@dataclass(frozen=True)
class BuiltIndex:
    """An index built for a catalogue.

    Attributes:
        index: Every item's path.
        report: ``items``, ``level_sizes``, ``quantizer``, ``mapping``; ``collision_rate_before`` (nearest codes) and
            ``collision_rate_after``, (n - distinct paths) / n; ``moved`` and ``spilled`` items of the mapping;
            ``used_codes`` and ``perplexity`` per level before the mapping, ``used_codes_after`` and
            ``perplexity_after``; ``reconstruction_error``, ``mean_predictor_error`` and ``relative_error``, their
            quotient (None without geometry); ``epochs`` (None except for an RQ-VAE); ``seconds``.
        quantizer: What gave the items their codes, on the CPU.
        folder: Its folder in the cache, unless that has been deleted.
    """

    index: ItemIndex
    report: dict[str, Any]
    quantizer: Quantizer = field(repr=False)
    folder: Path = field(repr=False)


def build_index(
    item_tokens: Sequence[str],
    embeddings: np.ndarray | None,
    quantizer_settings: QuantizerSettings,
    *,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
    mapping: str = "optimal",
    sequences: Sequence[np.ndarray] | None = None,
    collaborative: np.ndarray | None = None,
) -> BuiltIndex:
    """Build the index of a catalogue, or take it from the cache.

    Args:
        item_tokens: Item tokens, distinct.
        embeddings: [n_items, d]; None for quantizers that need no embeddings (``cid``, ``random``).
        quantizer_settings: Options of the quantizer.
        cache_dir: Folder of the caches; the index lies in ``index/<key>/`` there.
        seed: Seed of the quantizer.
        device: Where the quantizer trains.
        show_progress: Whether to show a bar.
        mapping: Option ``index_mapping``.
        sequences: Item rows of each user's training interactions, for ``cid``; other quantizers ignore them.
        collaborative: Item embeddings of a trained recommender, float32 [n_items, d'], for ``letter``; likewise.

    Raises:
        UserError: For more items than paths (before any training), embeddings that are not finite, embeddings or
            sequences that the quantizer needs but does not get, or what :func:`map_items` refuses.
    """
    level_sizes = index_level_sizes(quantizer_settings, mapping)
    check_capacity(len(item_tokens), level_sizes)
    kind = quantizer_class(quantizer_settings.quantizer)
    # the key contains only what the quantizer uses
    embeddings = embeddings if kind.needs_embeddings else None
    inputs = Inputs(
        len(item_tokens),
        None if embeddings is None else np.ascontiguousarray(embeddings, dtype=np.float32),
        sequences if kind.needs_sequences else None,
        collaborative if kind.needs_collaborative else None,
    )
    folder = Path(cache_dir) / "index" / _key(item_tokens, inputs, quantizer_settings, seed, device, mapping)

    def build() -> BuiltIndex:
        started = time.perf_counter()
        options: dict[str, Any] = {"seed": seed, "device": device, "show_progress": show_progress}
        quantizer, fitted = fit_quantizer(inputs, quantizer_settings, **options)
        index, mapped = map_items(item_tokens, inputs.embeddings, quantizer, mapping)
        report = _report(index, mapped, {**fitted, "mapping": mapping}, time.perf_counter() - started)
        return BuiltIndex(index, report, quantizer, folder)

    built, known = cached(
        folder, load=lambda entry: _load(entry, item_tokens, level_sizes), build=build, save=_save, what="paths"
    )
    if known:
        logger.info("Item index: %d items, from the cache (%s).", len(item_tokens), folder)
        return built
    _tell(built)
    return built


def _tell(built: BuiltIndex) -> None:
    report = built.report
    logger.info(
        "Item index: %d items by %s, collision rate %.2f%% before the mapping and 0 after it; %d items moved; %.1f s.",
        len(built.index), report["quantizer"], 100 * report["collision_rate_before"], report["moved"],
        report["seconds"],
    )  # fmt: skip


def check_index_options(config: Any) -> None:
    """Before the long stages, refuse options with which no index can be built.

    Raises:
        UserError: Naming the option.
    """
    if config["index_file"]:
        return
    mistakes = Mistakes()
    with mistakes.caught():
        index_level_sizes(settings_from(QuantizerSettings, config), settings_from(IndexSettings, config).index_mapping)
    kind = config["quantizer"]
    if kind in QUANTIZERS and quantizer_class(kind).needs_collaborative and not config["saved_run"]:
        mistakes.expect(
            bool(config["collaborative_from"]),
            f"quantizer={kind}: it aligns codes with the item embeddings of a trained recommender. Train one with the "
            "same data options, e.g. --model=SASRec --output_dir=saved/sasrec, and give "
            "--collaborative_from=saved/sasrec.",
        )
    mistakes.finish()


def index_level_sizes(settings: QuantizerSettings, mapping: str) -> tuple[int, ...]:
    """Return the sizes of the index's levels: the quantizer's, and under ``digit`` one more, of the last one's size.

    Raises:
        UserError: If ``digit`` has no level left, or nothing to separate.
    """
    if mapping != "digit":
        return settings.level_sizes
    if not quantizer_class(settings.quantizer).has_geometry:
        raise UserError(
            f"index_mapping=digit: the paths of quantizer={settings.quantizer} are distinct already, so a level that "
            "separates equal ones would have the same code for every item. Use index_mapping=optimal."
        )
    if settings.num_levels >= MAX_LEVELS:
        raise UserError(
            f"num_levels: index_mapping=digit adds a level, so expected at most {MAX_LEVELS - 1}, "
            f"found {settings.num_levels}."
        )
    sizes = (*settings.level_sizes, settings.level_sizes[-1])
    check_tokens(sizes, f"codebook_size={settings.codebook_size}, index_mapping=digit")
    return sizes


def map_items(
    item_tokens: Sequence[str], embeddings: np.ndarray | None, quantizer: Quantizer, mapping: str = "optimal"
) -> tuple[ItemIndex, Mapping]:
    """Give every item its own path with a fitted quantizer; the same quantizer gives the same paths.

    Args:
        item_tokens: Item tokens, distinct.
        embeddings: float32 [n_items, d]; None for a quantizer without geometry.
        quantizer: A fitted quantizer, on the CPU.
        mapping: Option ``index_mapping``.

    Raises:
        UserError: For more items than paths, or under ``digit`` more items on one path than the last level has codes.
    """
    codes = quantizer.codes_of(embeddings)
    if mapping == "digit":
        mapped = _numbered(codes, quantizer.level_sizes[-1])
    else:
        mapped = unique_paths(codes, quantizer.level_sizes, quantizer.costs_of(embeddings))
    return ItemIndex(tuple(item_tokens), mapped.codes, index_level_sizes(quantizer.settings, mapping)), mapped


def _numbered(codes: np.ndarray, size: int) -> Mapping:
    """Return codes [n, L] with one more level, which numbers the items of each path; nearest codes stay unchanged."""
    _, path, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    path = path.ravel()
    if counts.max() > size:
        raise UserError(
            f"index_mapping=digit: {counts.max()} items share a path of nearest codes, but the last level can number "
            f"only {size}. Raise codebook_size or num_levels, or use index_mapping=optimal."
        )
    order = np.argsort(path, kind="stable")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    digits = np.empty(len(codes), dtype=np.int64)
    digits[order] = np.arange(len(codes)) - starts
    return Mapping(np.column_stack([codes, digits]), moved=0, spilled=0)


def _key(
    item_tokens: Sequence[str], inputs: Inputs, settings: QuantizerSettings, seed: int, device: str, mapping: str
) -> str:
    """Return the key of everything that an index depends on.

    An RQ-VAE depends on the kind of device and on its precision. With one and with two CPU threads it came out the
    same, but libraries do not promise to group sums alike for any number of threads, so that is in the key too. The
    other quantizers always compute on one thread.
    """
    versions = [metadata.version(package) for package in ("torch", "numpy", "scipy", "scikit-learn")]
    machine: list[Any] = []
    if quantizer_class(settings.quantizer).on_device:
        import torch

        place = torch.device(device)
        machine = [place.type, torch.get_num_threads() if place.type == "cpu" else 0, uses_bfloat16(settings, place)]
    sequences = None if inputs.sequences is None else flat_sequences(inputs.sequences)
    code = QUANTIZERS[settings.quantizer].version
    made_of = [list(item_tokens), inputs.embeddings, sequences, settings, mapping, seed, machine, versions, code]
    if inputs.collaborative is not None:
        made_of.append(inputs.collaborative)
    return fingerprint("index", _ALGORITHM, made_of)


def _report(index: ItemIndex, mapping: Mapping, trained: dict[str, Any], seconds: float) -> dict[str, Any]:
    report = dict(trained)
    return {
        "items": len(index),
        "quantizer": report.pop("quantizer"),
        "mapping": report.pop("mapping"),
        "level_sizes": list(index.level_sizes),
        "collision_rate_before": report.pop("collision_rate"),
        "collision_rate_after": collision_rate(index.codes),
        "moved": mapping.moved,
        "spilled": mapping.spilled,
        **report,
        "used_codes_after": [len(np.unique(level)) for level in index.codes.T],
        "perplexity_after": [round(perplexity(level), 2) for level in index.codes.T],
        "seconds": round(seconds, 2),
    }


def _load(folder: Path, item_tokens: Sequence[str], level_sizes: tuple[int, ...]) -> BuiltIndex:
    """Return what an earlier run kept.

    Raises:
        ValueError: If it is an index of other items or sizes.
    """
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    index = load_index(folder / INDEX, collisions="error", codebook_size=list(level_sizes))
    if index.items != tuple(item_tokens) or index.level_sizes != level_sizes:
        raise ValueError("it holds another index")
    return BuiltIndex(index, report, load_quantizer(folder), folder)


def _save(built: BuiltIndex, folder: Path) -> None:
    built.index.save(folder / INDEX)
    write_json(folder / REPORT, built.report)
    built.quantizer.save(folder)
