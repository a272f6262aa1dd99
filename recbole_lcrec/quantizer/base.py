"""What every quantizer can do: the one interface between embeddings and the item index.

A quantizer gives each item of a catalogue a code per level, tells what every other code would cost the item (so that
the mapping can separate items that share a path), and can be saved and loaded. The kinds are in the registry.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding.ready_file import check_magnitude
from recbole_lcrec.quantizer.costs import Costs
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json

WEIGHTS, SETTINGS = "quantizer.safetensors", "quantizer.json"


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a quantizer is fitted to.

    Attributes:
        n_items: Items of the catalogue, 1 or more.
        embeddings: float32 [n_items, d], or None for quantizers that need no embeddings.
        sequences: The item rows of each user's training interactions, in time order, or None. They must contain
            nothing from validation or test interactions.
        collaborative: Item embeddings of a recommender trained on the same split, float32 [n_items, d'], rows of NaN
            for items that it does not know; or None.

    Raises:
        UserError: For embeddings that :func:`check_embeddings` refuses.
    """

    n_items: int
    embeddings: np.ndarray | None = None
    sequences: Sequence[np.ndarray] | None = None
    collaborative: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert self.n_items >= 1, "a catalogue has items"
        if self.embeddings is not None:
            assert len(self.embeddings) == self.n_items, "one embedding per item"
            check_embeddings(self.embeddings)


def check_embeddings(embeddings: np.ndarray) -> None:
    """Refuse embeddings to which no quantizer can be fitted.

    Raises:
        UserError: For NaN or infinity, naming the first rows, and for numbers too large to be squared.
    """
    assert embeddings.ndim == 2 and embeddings.size, f"embeddings of shape {embeddings.shape}"
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:5]))
        raise UserError(
            f"embeddings: {len(bad)} of {len(embeddings)} rows hold NaN or infinity (rows {rows}"
            f"{', ...' if len(bad) > 5 else ''}). Check the texts and the text_encoder."
        )
    check_magnitude(embeddings, "embeddings")


class Quantizer(ABC):
    """A fitted quantizer.

    Attributes:
        settings: The options it was fitted with; ``settings.quantizer`` is its kind.
        has_geometry: Whether codes are places near an embedding. Without geometry, the paths belong to the items that
            the quantizer was fitted to, and are distinct already.
        needs_embeddings: Whether it is fitted to embeddings.
        needs_sequences: Whether it is fitted to training sequences.
        needs_collaborative: Whether it is also fitted to the embeddings of a trained recommender.
        on_device: Whether it computes on the run's device with all threads, so that the result depends on them.
    """

    settings: QuantizerSettings
    has_geometry: ClassVar[bool] = True
    needs_embeddings: ClassVar[bool] = True
    needs_sequences: ClassVar[bool] = False
    needs_collaborative: ClassVar[bool] = False
    on_device: ClassVar[bool] = True

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return self.settings.level_sizes

    @property
    def input_dim(self) -> int | None:
        """Width of the embeddings it was fitted to; None for quantizers that need no embeddings."""
        return None

    @classmethod
    @abstractmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[Quantizer, dict[str, Any]]:
        """Return a fitted quantizer and its report, as :func:`recbole_lcrec.quantizer.fitting.fit_quantizer` does."""

    @abstractmethod
    def codes_of(self, embeddings: np.ndarray | None) -> np.ndarray:
        """Return the codes of items, int64 [n, L]; items may share a path.

        Args:
            embeddings: float32 [n, d]. Quantizers without geometry ignore them and return the paths of the items that
                they were fitted to.
        """

    @abstractmethod
    def costs_of(self, embeddings: np.ndarray | None) -> Costs:
        """Return what codes cost the items of ``embeddings`` [n, d], for the mapping."""

    def reconstruct(self, codes: np.ndarray) -> np.ndarray | None:
        """Return the embeddings that codes [n, L] stand for, float32 [n, d], or None without geometry."""
        return None

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and settings (JSON) into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Quantizer:
        """Load what ``save`` wrote, on the CPU; the loaded quantizer gives the same codes."""


def save_state(folder: Path, arrays: dict[str, np.ndarray], settings: QuantizerSettings, **facts: int | str) -> None:
    """Write a quantizer's arrays (safetensors), and its settings with a few facts about it (JSON)."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(folder / WEIGHTS))
    write_json(folder / SETTINGS, {**facts, **asdict(settings)})


def load_settings(folder: Path, *facts: str) -> tuple[QuantizerSettings, dict[str, Any]]:
    """Return the settings of a saved quantizer, and the facts that were written with them."""
    values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    found = {name: values.pop(name) for name in facts}
    return restored(QuantizerSettings, values), found


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a saved quantizer."""
    from safetensors.numpy import load_file

    return load_file(str(folder / WEIGHTS))
