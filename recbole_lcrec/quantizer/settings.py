"""Options of the quantizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recbole_lcrec.errors import UserError, nearest

MIN_LEVELS, MAX_LEVELS = 2, 8
QUANTIZER_NAMES = ("rqvae", "rkmeans", "opq", "cid", "random")
_CHOICES = {
    "quantizer": QUANTIZER_NAMES,
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
}


@dataclass(frozen=True)
class QuantizerSettings:
    """Options of the quantizer; each is explained in properties/generative.yaml.

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

    def __post_init__(self) -> None:
        if not MIN_LEVELS <= self.num_levels <= MAX_LEVELS:
            raise UserError(f"num_levels: expected {MIN_LEVELS} to {MAX_LEVELS}, found {self.num_levels}.")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name}: expected {' or '.join(known)}, found {getattr(self, name)!r}."
                    f"{nearest(str(getattr(self, name)), known)}"
                )
        self._check_lists()
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"{name}: expected {least} or more, found {getattr(self, name)}.")
        for name in ("rqvae_beta", "rqvae_loss_weight", "rqvae_weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}: expected 0 or more, found {getattr(self, name)}.")
        if not 0 < self.rqvae_learning_rate < math.inf:
            raise UserError(f"rqvae_learning_rate: expected a number above 0, found {self.rqvae_learning_rate}.")
        if not 1e-4 <= self.sinkhorn_epsilon < math.inf:
            raise UserError(
                f"sinkhorn_epsilon: expected 0.0001 or more, found {self.sinkhorn_epsilon}. "
                "It is relative to the largest distance of a batch; the paper uses 0.003."
            )

    def _check_lists(self) -> None:
        sizes, layers = self.codebook_size, self.rqvae_layers
        if isinstance(sizes, list) and len(sizes) != self.num_levels:
            raise UserError(
                f"codebook_size: expected one number, or one per level (num_levels: {self.num_levels}), found {sizes}."
            )
        if any(not isinstance(size, int) or size < 1 for size in self.level_sizes):
            raise UserError(f"codebook_size: expected whole numbers of 1 or more, found {sizes}.")
        if not isinstance(layers, list) or any(not isinstance(width, int) or width < 1 for width in layers):
            raise UserError(f"rqvae_layers: expected a list of layer widths, each 1 or more, found {layers}.")

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        if isinstance(self.codebook_size, list):
            return tuple(self.codebook_size)
        return (self.codebook_size,) * self.num_levels
