"""Random paths: the ablation that shows what codes with a meaning are worth. Seeded, distinct, nothing learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.quantizer.base import Inputs, Quantizer, load_arrays, load_settings, save_state
from recbole_lcrec.quantizer.costs import Costs, own_code_costs
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings

_LISTED = 1_000_000  # up to this many paths are listed and drawn from without replacement


class FixedPaths(Quantizer):
    """A quantizer without geometry: a table of distinct paths, one for each item it was fitted to.

    Args:
        settings: Options of the quantizer.
        codes: int64 [n, L], distinct rows.
    """

    has_geometry = False
    needs_embeddings = False
    on_device = False

    def __init__(self, settings: QuantizerSettings, codes: np.ndarray) -> None:
        self.settings, self.codes = settings, codes

    def codes_of(self, embeddings: np.ndarray | None) -> np.ndarray:
        return self.codes.copy()

    def costs_of(self, embeddings: np.ndarray | None) -> Costs:
        return own_code_costs(self.codes, self.level_sizes)

    def save(self, folder: Path) -> None:
        save_state(folder, {"codes": self.codes}, self.settings)

    @classmethod
    def load(cls, folder: Path) -> FixedPaths:
        settings, _ = load_settings(folder)
        return cls(settings, load_arrays(folder)["codes"])


class RandomPaths(FixedPaths):
    """Random distinct paths."""

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[RandomPaths, dict[str, Any]]:
        """Draw a path per item; embeddings and sequences are ignored."""
        rng = np.random.default_rng(seed)
        return cls(settings, distinct_paths(inputs.n_items, settings.level_sizes, rng)), {}


def distinct_paths(n_items: int, level_sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return ``n_items`` random distinct paths, int64 [n, L]; that many must exist."""
    n_paths = math.prod(map(int, level_sizes))
    assert n_items <= n_paths, "more items than paths"
    if n_paths <= max(_LISTED, 4 * n_items):
        chosen = rng.permutation(n_paths)[:n_items]
        return np.stack(np.unravel_index(chosen, level_sizes), axis=1).astype(np.int64)
    # plenty of paths: draw, and redraw repeated ones
    codes = rng.integers(np.array(level_sizes), size=(n_items, len(level_sizes)))
    while True:
        _, first = np.unique(codes, axis=0, return_index=True)
        again = np.setdiff1d(np.arange(n_items), first)
        if not len(again):
            return codes
        codes[again] = rng.integers(np.array(level_sizes), size=(len(again), len(level_sizes)))
