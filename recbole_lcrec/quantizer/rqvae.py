"""The residual-quantized variational autoencoder (RQ-VAE), Sec. III-B.1 of the paper, Eq. 1 to 5."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.io import write_json
from recbole_lcrec.quantizer.settings import QuantizerSettings
from recbole_lcrec.quantizer.sinkhorn import sinkhorn_log

WEIGHTS, SETTINGS = "quantizer.safetensors", "quantizer.json"
_CHUNK = 8192  # items encoded at once outside training; bounds memory, not the result


class Quantized(NamedTuple):
    """Result of quantizing latents r [n, d].

    Attributes:
        codes: int64 [n, L].
        residuals: [n, L, d], what each level had to quantize; ``residuals[:, 0]`` are the latents.
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


class RQVAE(nn.Module):
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

    @torch.no_grad()
    def fit_scale(self, embeddings: Tensor) -> None:
        """Take centre and scale of the inputs from the catalogue's embeddings [n, d].

        One scale for all dimensions: a scale each would blow up the least important dimensions of an SVD.
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
                training); otherwise each level takes the nearest code.
        """
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
        latents = self.encoder(inputs)
        if not quantized:
            return functional.mse_loss(self.decoder(latents), inputs), latents.new_zeros(())
        result = self.quantize(latents, balance_last=True)
        # straight-through: the decoder's gradient reaches the encoder as if nothing had been rounded
        passed = latents + (result.vectors - latents).detach()
        return functional.mse_loss(self.decoder(passed), inputs), result.loss

    @torch.no_grad()
    def latents_of(self, embeddings: np.ndarray) -> Tensor:
        """Return the latents [n, latent_dim] of a whole catalogue, [n, d] on the host, in chunks."""
        device = self.mean.device
        chunks = range(0, len(embeddings), _CHUNK)
        return torch.cat([self.encode(torch.from_numpy(embeddings[i : i + _CHUNK]).to(device)) for i in chunks])

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and settings (JSON) into an existing folder."""
        from safetensors.torch import save_file

        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, str(folder / WEIGHTS))
        write_json(folder / SETTINGS, {"input_dim": self.mean.shape[0], **asdict(self.settings)})

    @classmethod
    def load(cls, folder: Path) -> RQVAE:
        """Load what ``save`` wrote, on the CPU; the loaded quantizer gives the same codes."""
        from safetensors.torch import load_file

        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        model = cls(settings.pop("input_dim"), QuantizerSettings(**settings))
        model.load_state_dict(load_file(str(folder / WEIGHTS)))
        return model.eval()


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
