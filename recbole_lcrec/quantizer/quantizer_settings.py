"""Options of the quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_lcrec.config import StageSettings
from recbole_lcrec.config.registry import QUANTIZERS, Component
from recbole_lcrec.utils.errors import Mistakes, UserError, shortened

MIN_LEVELS, MAX_LEVELS = 2, 32
MAX_CODES = 65_536
"""Most codes of a level: each becomes a token of the language model, and a typo must not make a billion."""
MAX_TOKENS = 131_072
"""Most codes of all levels together: the size of the largest language models' vocabularies."""

MAX_LAYERS = 64
"""Most layers of the RQ-VAE's encoder."""


def check_tokens(level_sizes: Sequence[int], what: str) -> None:
    """Refuse levels with more codes in total than a language model should have new tokens.

    Raises:
        UserError: Naming ``what``.
    """
    if sum(level_sizes) > MAX_TOKENS:
        raise UserError(
            f"{what}: the levels have {sum(level_sizes):,} codes together, each of which becomes a token of the "
            f"language model; expected at most {MAX_TOKENS:,}. Use fewer codes, or number them without gaps."
        )


@dataclass(frozen=True)
class QuantizerSettings(StageSettings):
    """Options of the quantizer; each is explained in properties/index.yaml.

    Attributes:
        own: The options that the quantizer itself has declared.
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
    quantizer: str
    rqvae_codebook: str
    rqvae_precision: str
    cid_clusters: int
    own: dict[str, Any] = field(default_factory=dict)

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        sizes, layers = self.codebook_size, self.rqvae_layers
        if isinstance(sizes, list) and len(sizes) != self.num_levels:
            mistakes.add(
                f"codebook_size: expected one number, or one per level (num_levels: {self.num_levels}), found "
                f"{shortened(sizes)}."
            )
        else:
            with mistakes.caught():
                check_tokens(self.level_sizes, f"codebook_size={shortened(sizes)}, num_levels={self.num_levels}")
        mistakes.expect(
            len(layers) <= MAX_LAYERS, f"rqvae_layers: expected at most {MAX_LAYERS} layers, found {len(layers)}."
        )

    @staticmethod
    def component(config: Any) -> Component:
        """Return the quantizer that a configuration names."""
        return QUANTIZERS[config["quantizer"]]

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        if isinstance(self.codebook_size, list):
            return tuple(self.codebook_size)
        return (self.codebook_size,) * self.num_levels
