"""Options of the quantizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_lcrec.config.registry import QUANTIZERS, Component
from recbole_lcrec.utils.errors import Mistakes, UserError, shortened

MIN_LEVELS, MAX_LEVELS = 2, 32
_CHOICES = {
    "rqvae_codebook": ("gradient", "ema"),
    "rqvae_precision": ("auto", "float32", "bfloat16"),
}
_LEAST = {
    "latent_dim": 1,
    "rqvae_batch_size": 1,
    "rqvae_epochs": 1,
    "rqvae_patience": 1,
    "sinkhorn_iterations": 0,
    "cid_clusters": 2,
    "rqvae_beta": 0,
    "rqvae_loss_weight": 0,
    "rqvae_weight_decay": 0,
}
MAX_CODES = 65_536
"""Codes of a level at most: each becomes a token of the language model, and a typing error must not make a billion."""
MAX_TOKENS = 131_072
"""Codes of all levels together at most: a vocabulary that large is that of the largest language models."""

MAX_WIDTH = 65_536
_MOST = {"latent_dim": MAX_WIDTH, "sinkhorn_iterations": 1_000_000}


def check_tokens(level_sizes: Sequence[int], what: str) -> None:
    """Refuse levels that have more codes together than a language model should have new tokens.

    Raises:
        UserError: Naming ``what``.
    """
    if sum(level_sizes) > MAX_TOKENS:
        raise UserError(
            f"{what}: the levels have {sum(level_sizes):,} codes together, each of which becomes a token of the "
            f"language model; expected at most {MAX_TOKENS:,}. Use fewer codes, or number them without gaps."
        )


@dataclass(frozen=True)
class QuantizerSettings:
    """Options of the quantizer; each is explained in properties/index.yaml.

    Attributes:
        own: The options that a plugin's quantizer has declared.

    Raises:
        UserError: For a value out of its range, naming the option.
    """

    num_levels: int
    codebook_size: int | list[int]
    latent_dim: int
    rqvae_layers: list[int]
    rqvae_beta: float
    rqvae_loss_weight: float
    rqvae_learning_rate: float
    rqvae_weight_decay: float
    rqvae_batch_size: int
    rqvae_epochs: int
    rqvae_patience: int
    sinkhorn_epsilon: float
    sinkhorn_iterations: int
    quantizer: str = "rqvae"
    rqvae_codebook: str = "gradient"
    rqvae_precision: str = "auto"
    cid_clusters: int = 20
    own: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        with mistakes.caught():
            QUANTIZERS[self.quantizer]
        mistakes.expect_choice(self, _CHOICES)
        self._check_lists(mistakes)
        mistakes.expect_range(self, _LEAST, _MOST)
        mistakes.expect(
            0 < self.rqvae_learning_rate < math.inf,
            f"rqvae_learning_rate: expected a number above 0, found {self.rqvae_learning_rate}.",
        )
        mistakes.expect(
            1e-4 <= self.sinkhorn_epsilon < math.inf,
            f"sinkhorn_epsilon: expected 0.0001 or more, found {self.sinkhorn_epsilon}. It is relative to the largest "
            "distance of a batch; the paper uses 0.003.",
        )
        mistakes.finish()

    def _check_lists(self, mistakes: Mistakes) -> None:
        sizes, layers = self.codebook_size, self.rqvae_layers
        if not MIN_LEVELS <= self.num_levels <= MAX_LEVELS:
            mistakes.add(f"num_levels: expected {MIN_LEVELS} to {MAX_LEVELS}, found {self.num_levels}.")
        elif isinstance(sizes, list) and len(sizes) != self.num_levels:
            mistakes.add(
                f"codebook_size: expected one number, or one per level (num_levels: {self.num_levels}), found "
                f"{shortened(sizes)}."
            )
        elif not all(type(size) is int and 1 <= size <= MAX_CODES for size in self.level_sizes):
            mistakes.add(f"codebook_size: expected whole numbers from 1 to {MAX_CODES:,}, found {shortened(sizes)}.")
        else:
            with mistakes.caught():
                check_tokens(self.level_sizes, f"codebook_size={shortened(sizes)}, num_levels={self.num_levels}")
        mistakes.expect(
            isinstance(layers, list)
            and len(layers) <= 64
            and all(type(width) is int and 1 <= width <= MAX_WIDTH for width in layers),
            f"rqvae_layers: expected a list of at most 64 layer widths, each from 1 to {MAX_WIDTH:,}, found "
            f"{shortened(layers)}.",
        )

    @staticmethod
    def component(config: Any) -> Component:
        """Return the quantizer that a configuration names."""
        return QUANTIZERS[config["quantizer"]]

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        if isinstance(self.codebook_size, list):
            return tuple(self.codebook_size)
        return (self.codebook_size,) * self.num_levels
