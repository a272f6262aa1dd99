"""Embeddings to item index: quantizer, then uniform semantic mapping, kept in the cache."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.errors import UserError
from recbole_lcrec.index.item_index import ItemIndex, check_capacity
from recbole_lcrec.index.loading import load_index
from recbole_lcrec.index.mapping import Mapping, residual_costs, unique_paths
from recbole_lcrec.io import atomic_folder, fingerprint, write_json
from recbole_lcrec.quantizer import RQVAE, QuantizerSettings, train_rqvae

logger = logging.getLogger(__name__)

INDEX, REPORT = "index.json", "report.json"
_ALGORITHM = 1  # part of the key: raise it when the same inputs are to give another index


@dataclass(frozen=True)
class IndexSettings:
    """Options of a ready index; each is explained in properties/model/LCRec.yaml."""

    index_file: str | None
    index_collisions: str

    def __post_init__(self) -> None:
        if self.index_collisions not in ("error", "resolve"):
            raise UserError(f"index_collisions: expected error or resolve, found {self.index_collisions!r}.")


@dataclass(frozen=True)
class BuiltIndex:
    """An index built from embeddings.

    Attributes:
        index: Every item's path.
        report: ``items``, ``level_sizes``; ``collision_rate_before`` (nearest codes) and ``collision_rate_after``,
            (n - distinct paths) / n; ``moved`` and ``spilled`` items of the mapping; ``used_codes`` and ``perplexity``
            per level before the mapping, ``used_codes_after`` and ``perplexity_after``; ``reconstruction_error``,
            ``mean_predictor_error`` and ``relative_error``, their quotient; ``epochs``; ``seconds``.
        folder: Its folder in the cache, with index, report and quantizer.
    """

    index: ItemIndex
    report: dict[str, Any]
    folder: Path


def build_index(
    item_tokens: Sequence[str],
    embeddings: np.ndarray,
    quantizer_settings: QuantizerSettings,
    *,
    cache_dir: Path,
    seed: int,
    device: str = "cpu",
    show_progress: bool = False,
) -> BuiltIndex:
    """Build the index of a catalogue, or take it from the cache.

    Args:
        item_tokens: Item tokens, distinct.
        embeddings: [n_items, d].
        quantizer_settings: Options of the quantizer.
        cache_dir: Folder of the caches; the index lies in ``index/<key>/`` there.
        seed: Seed of the quantizer.
        device: Where the quantizer trains.
        show_progress: Whether to show a bar.

    Raises:
        UserError: For more items than paths (before any training) or embeddings that are not finite.
    """
    assert len(item_tokens) == len(embeddings), "one embedding per item"
    check_capacity(len(item_tokens), quantizer_settings.level_sizes)
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    key = _key(item_tokens, embeddings, quantizer_settings, seed, device)
    folder = Path(cache_dir) / "index" / key
    cached = _from_cache(folder, item_tokens, quantizer_settings)
    if cached:
        logger.info("Item index: %d items, from the cache (%s).", len(item_tokens), folder)
        return cached
    started = time.perf_counter()
    model, trained = train_rqvae(embeddings, quantizer_settings, seed=seed, device=device, show_progress=show_progress)
    index, mapping = map_items(item_tokens, embeddings, model)
    report = _report(index, mapping, trained, time.perf_counter() - started)
    _keep(folder, index, report, model, quantizer_settings)
    logger.info(
        "Item index: %d items, collision rate %.2f%% before the mapping and 0 after it; %d items moved; %.1f s.",
        len(index), 100 * report["collision_rate_before"], mapping.moved, report["seconds"],
    )  # fmt: skip
    return BuiltIndex(index, report, folder)


def map_items(item_tokens: Sequence[str], embeddings: np.ndarray, model: RQVAE) -> tuple[ItemIndex, Mapping]:
    """Give every item its own path by a trained quantizer; the same quantizer gives the same paths.

    Args:
        item_tokens: Item tokens, distinct.
        embeddings: float32 [n_items, d].
        model: A trained quantizer, on the CPU.
    """
    latents = model.latents_of(embeddings)
    codes = model.quantize(latents).codes.numpy()
    costs = residual_costs(latents.numpy(), [codebook.detach().numpy() for codebook in model.codebooks])
    mapping = unique_paths(codes, model.settings.level_sizes, costs)
    return ItemIndex(tuple(item_tokens), mapping.codes, model.settings.level_sizes), mapping


def _key(
    item_tokens: Sequence[str], embeddings: np.ndarray, settings: QuantizerSettings, seed: int, device: str
) -> str:
    versions = [metadata.version(package) for package in ("torch", "numpy", "scipy", "scikit-learn")]
    kind = device.partition(":")[0]
    return fingerprint("index", _ALGORITHM, list(item_tokens), embeddings, settings, seed, kind, versions)


def _report(index: ItemIndex, mapping: Mapping, trained: dict[str, Any], seconds: float) -> dict[str, Any]:
    from recbole_lcrec.quantizer.training import collision_rate, perplexity

    report = dict(trained)
    return {
        "items": len(index),
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


def _from_cache(folder: Path, item_tokens: Sequence[str], settings: QuantizerSettings) -> BuiltIndex | None:
    """Return what an earlier run kept, or None when there is nothing or it is broken."""
    if not folder.is_dir():
        return None
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        index = load_index(folder / INDEX, collisions="error", codebook_size=list(settings.level_sizes))
        RQVAE.load(folder)
    except Exception as error:  # whatever is wrong with a cache, the remedy is the same
        logger.warning("%s is broken (%s); the index is built anew.", folder, type(error).__name__)
        return None
    if index.items != tuple(item_tokens) or index.level_sizes != settings.level_sizes:
        logger.warning("%s holds another index; it is built anew.", folder)
        return None
    return BuiltIndex(index, report, folder)


def _keep(folder: Path, index: ItemIndex, report: dict[str, Any], model: RQVAE, settings: QuantizerSettings) -> None:
    try:
        with atomic_folder(folder) as temporary:
            index.save(temporary / INDEX)
            write_json(temporary / REPORT, report)
            model.save(temporary)
    except OSError:
        # another process may have put the same folder there between our look and our rename
        if _from_cache(folder, index.items, settings) is None:
            raise
