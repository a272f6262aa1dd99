"""The network of the RQ-VAE and the codes that it gives, Sec. III-B.1 of the paper, Eq. 1 to 5."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.quantizer.base import Quantizer, load_arrays, load_settings, save_state
from recbole_lcrec.quantizer.costs import Costs, nearest_codes, residual_costs
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.quantizer.sinkhorn import sinkhorn_log
from recbole_lcrec.utils.bfloat16 import native_bfloat16

_CHUNK = 8192  # items encoded at once outside training; bounds memory, not the result
_WIDE = 1024  # width of a layer from which its matrix products take most of a step's time


class Quantized(NamedTuple):
    """Result of quantizing latents r [n, d].

    Attributes:
        codes: int64 [n, L].
        residuals: [n, L, d], the input of each level; ``residuals[:, 0]`` are the latents.
        vectors: [n, d], the sum of the chosen codes' vectors.
        loss: Codebook and commitment terms summed over levels (Eq. 4), a scalar.
    """

    codes: Tensor
    residuals: Tensor
    vectors: Tensor
    loss: Tensor


def squared_distances(points: Tensor, codes: Tensor) -> Tensor:
    """Return |p - v|^2 for points [n, d] and codes [K, d], [n, K]."""
    distances = points.pow(2).sum(1, keepdim=True) - 2 * points @ codes.T + codes.pow(2).sum(1)
    return distances.clamp_(min=0)


class ResidualAutoencoder(nn.Module, Quantizer):
    """Encoder, residual codebooks and decoder.

    Args:
        input_dim: Dimensions of the embeddings.
        settings: Options of the quantizer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, input_dim: int, settings: QuantizerSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = [input_dim, *settings.rqvae_layers, settings.latent_dim]
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(size, settings.latent_dim)) for size in settings.level_sizes
        )
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(()))

    @property
    def input_dim(self) -> int:
        """Width of the embeddings."""
        return len(self.mean)

    @torch.no_grad()
    def fit_scale(self, embeddings: Tensor) -> None:
        """Take centre and scale of the inputs from the catalogue's embeddings [n, d].

        One scale for all dimensions: separate scales would blow up the least important dimensions of an SVD.
        """
        self.mean.copy_(embeddings.mean(0))
        spread = (embeddings - self.mean).pow(2).mean().sqrt()
        self.scale.copy_(spread if spread > 1e-8 else torch.ones_like(spread))

    def normalise(self, embeddings: Tensor) -> Tensor:
        """Return embeddings [n, d] centred and scaled: the inputs of the autoencoder."""
        return (embeddings - self.mean) / self.scale

    def encode(self, embeddings: Tensor) -> Tensor:
        """Return latents [n, latent_dim] of embeddings [n, d] (Eq. 1)."""
        return self.encoder(self.normalise(embeddings))

    def quantize(self, latents: Tensor, *, balance_last: bool = False) -> Quantized:
        """Replace latents by one code per level (Eq. 2 and 3).

        Args:
            latents: [n, latent_dim].
            balance_last: Spread the batch evenly over the last level's codes by Sinkhorn-Knopp (Eq. 6, while
                training), unless ``sinkhorn_iterations`` is 0; otherwise each level takes the nearest code.
        """
        balance_last = balance_last and self.settings.sinkhorn_iterations > 0
        residual, loss = latents, latents.new_zeros(())
        codes, residuals, vectors = [], [], []
        for level, codebook in enumerate(self.codebooks):
            residuals.append(residual)
            with torch.no_grad():
                distances = squared_distances(residual, codebook)
                if balance_last and level == len(self.codebooks) - 1:
                    options = self.settings
                    plan = sinkhorn_log(distances, options.sinkhorn_epsilon, options.sinkhorn_iterations)
                    chosen = plan.argmax(dim=1)
                else:
                    chosen = distances.argmin(dim=1)
            vector = functional.embedding(chosen, codebook)
            if self.settings.rqvae_codebook == "gradient":
                loss = loss + functional.mse_loss(vector, residual.detach())
            loss = loss + self.settings.rqvae_beta * functional.mse_loss(residual, vector.detach())
            residual = residual - vector.detach()
            codes.append(chosen)
            vectors.append(vector)
        return Quantized(torch.stack(codes, 1), torch.stack(residuals, 1), torch.stack(vectors).sum(0), loss)

    def forward(self, inputs: Tensor, *, quantized: bool = True) -> tuple[Tensor, Tensor]:
        """Return reconstruction error and quantization loss (Eq. 4) of a training batch, two scalars.

        Args:
            inputs: [n, d], already normalised.
            quantized: False trains the plain autoencoder (the warm-up before the codebooks exist).
        """
        error, result = self.autoencode(inputs, quantized=quantized)
        return error, inputs.new_zeros(()) if result is None else result.loss

    def autoencode(self, inputs: Tensor, *, quantized: bool) -> tuple[Tensor, Quantized | None]:
        """Return the reconstruction error of a training batch, and how it was quantized; see :meth:`forward`."""
        precision = self._precision(inputs.device)
        with precision:
            latents = self.encoder(inputs)
        latents = latents.float()
        result = self.quantize(latents, balance_last=True) if quantized else None
        # straight-through: the decoder's gradient reaches the encoder as if nothing had been rounded
        passed = latents if result is None else latents + (result.vectors - latents).detach()
        with precision:
            rebuilt = self.decoder(passed)
        return functional.mse_loss(rebuilt.float(), inputs), result

    def before_epoch(self, rng: np.random.Generator) -> None:
        """Prepare an epoch with codes; nothing here."""

    def more_loss(self, rows: Tensor, result: Quantized, rng: np.random.Generator) -> Tensor:
        """Return what a variant adds to the loss of a batch, a scalar; nothing here.

        Args:
            rows: The batch's rows of the catalogue, int64 [n].
            result: How they were quantized.
            rng: For random draws.
        """
        return result.loss.new_zeros(())

    def penalty(self, result: Quantized) -> float:
        """Return a variant's penalty on the whole catalogue, added to the reconstruction error; 0 here."""
        return 0.0

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context of training's matrix products; quantization and inference are always in float32."""
        if uses_bfloat16(self.settings, device):
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    @torch.no_grad()
    def latents_of(self, embeddings: np.ndarray) -> Tensor:
        """Return the latents [n, latent_dim] of a whole catalogue, [n, d] on the host, in chunks."""
        device = self.mean.device
        chunks = range(0, len(embeddings), _CHUNK)
        return torch.cat([self.encode(torch.from_numpy(embeddings[i : i + _CHUNK]).to(device)) for i in chunks])

    @torch.no_grad()
    def codes_of(self, embeddings: np.ndarray | None) -> np.ndarray:
        assert embeddings is not None
        return nearest_codes(self.latents_of(embeddings).cpu().numpy(), self._books())

    def costs_of(self, embeddings: np.ndarray | None) -> Costs:
        assert embeddings is not None
        return residual_costs(self.latents_of(embeddings).cpu().numpy(), self._books())

    def _books(self) -> list[np.ndarray]:
        return [codebook.detach().cpu().numpy() for codebook in self.codebooks]

    @torch.no_grad()
    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(codes).to(self.mean.device)
        vectors = torch.stack([book[rows[:, level]] for level, book in enumerate(self.codebooks)]).sum(0)
        return (self.decoder(vectors) * self.scale + self.mean).cpu().numpy()

    def save(self, folder: Path) -> None:
        weights = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        save_state(folder, weights, self.settings, input_dim=self.mean.shape[0])

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, facts = load_settings(folder, "input_dim")
        model = cls(facts["input_dim"], settings)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in load_arrays(folder).items()})
        return model.eval().requires_grad_(False)


def uses_bfloat16(settings: QuantizerSettings, device: torch.device) -> bool:
    """Whether training multiplies in bfloat16 on a device (option ``rqvae_precision``)."""
    if settings.rqvae_precision == "auto":
        return max(settings.rqvae_layers, default=0) >= _WIDE and native_bfloat16(device)
    return settings.rqvae_precision == "bfloat16"


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
