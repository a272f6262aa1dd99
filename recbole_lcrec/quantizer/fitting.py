"""How a registered quantizer is fitted or loaded."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from recbole_lcrec.config.registry import QUANTIZERS
from recbole_lcrec.quantizer.base import SETTINGS, Inputs, Quantizer
from recbole_lcrec.quantizer.measures import quality
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.utils.errors import UserError

logger = logging.getLogger(__name__)


def quantizer_class(name: str) -> type[Quantizer]:
    """Return the class of a registered quantizer.

    Raises:
        UserError: For a name that is not registered.
    """
    return QUANTIZERS[name].load()  # type: ignore[no-any-return]


def fit_quantizer(
    inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str = "cpu", show_progress: bool = False
) -> tuple[Quantizer, dict[str, Any]]:
    """Fit the quantizer that option ``quantizer`` names.

    Args:
        inputs: The catalogue: embeddings, training sequences, or both.
        settings: Options of the quantizer.
        seed: Seed of all random draws; global random generators are left alone.
        device: Where an RQ-VAE trains; the others always use one thread of the CPU.
        show_progress: Whether to show a bar.

    Returns:
        The quantizer on the CPU, and a report: the result of :func:`recbole_lcrec.quantizer.measures.quality`,
        ``quantizer``, ``seconds``, and what the quantizer itself adds (``epochs`` of an RQ-VAE).

    Raises:
        UserError: If the quantizer lacks an input that it needs, or cannot be fitted.
    """
    kind = quantizer_class(settings.quantizer)
    if kind.needs_embeddings and inputs.embeddings is None:
        raise UserError(f"quantizer={settings.quantizer}: it needs embeddings of the items, and there are none.")
    if kind.needs_sequences and inputs.sequences is None:
        raise UserError(
            f"quantizer={settings.quantizer}: it is made from training interactions, and there are none. "
            "Pass the training sequences, or use another quantizer."
        )
    if kind.needs_collaborative and inputs.collaborative is None:
        raise UserError(
            f"quantizer={settings.quantizer}: it aligns codes with the embeddings of a trained recommender, and there "
            "are none. Give collaborative_from, or use another quantizer."
        )
    started = time.perf_counter()
    quantizer, report = kind.fit(inputs, settings, seed=seed, device=device, show_progress=show_progress)
    seconds = round(time.perf_counter() - started, 2)
    if "collision_rate" not in report:
        report = {**quality(quantizer, inputs.embeddings if kind.has_geometry else None), **report}
        logger.info("%s: %.1f s, collision rate %.2f%%.", settings.quantizer, seconds, 100 * report["collision_rate"])
    return quantizer, {"quantizer": settings.quantizer, "epochs": None, **report, "seconds": seconds}


def load_quantizer(folder: Path) -> Quantizer:
    """Load a quantizer of any kind; the settings next to its weights name it."""
    name = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["quantizer"]
    return quantizer_class(name).load(folder)
