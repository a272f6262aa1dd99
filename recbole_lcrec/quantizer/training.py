"""Training of the RQ-VAE: warm-up, k-means start, revival of dead codes, early stop."""

from __future__ import annotations

import copy
import logging
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recbole_lcrec.quantizer.autoencoder import ResidualAutoencoder
from recbole_lcrec.quantizer.codebooks import initialise, revive
from recbole_lcrec.quantizer.ema import MovingCodebooks
from recbole_lcrec.quantizer.measures import collision_rate, quality
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.progress import progress

logger = logging.getLogger(__name__)

WARM_UP_SHARE = 0.1  # share of the epochs that train the plain autoencoder, before there are codes
CHECK_EVERY = 5  # epochs between evaluations on the whole catalogue

# A small catalogue gets smaller batches, down to LEAST_BATCH items, so that an epoch still has several steps:
# otherwise a few hundred items would get too few steps in a number of epochs that suits some thousands.
LEAST_STEPS, LEAST_BATCH = 8, 32


def train(
    model: ResidualAutoencoder, embeddings: np.ndarray, *, seed: int, device: str, show_progress: bool
) -> dict[str, Any]:
    """Fit a new network to a catalogue; see :func:`recbole_lcrec.quantizer.rqvae.train_rqvae`.

    Returns:
        The report; afterwards, the network is on the CPU in its best state.
    """
    started = time.perf_counter()
    data = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32)).to(device)
    model.to(device).fit_scale(data)
    training = _Training(model, model.normalise(data), seed)
    epochs_at_most = model.settings.rqvae_epochs
    with progress(total=epochs_at_most, description="Train RQ-VAE", show=show_progress, unit="epoch") as bar:
        epochs = training.run(bar)
    model.eval().requires_grad_(False).cpu()
    report = quality(model, embeddings)
    report |= {"epochs": epochs, "seconds": round(time.perf_counter() - started, 2)}
    logger.info(
        "RQ-VAE: %d epochs, %.1f s, reconstruction error %.3f of the mean predictor's, collision rate %.2f%%.",
        epochs, report["seconds"], report["relative_error"], 100 * report["collision_rate"],
    )  # fmt: skip
    return report


class _Training:
    """One run over one catalogue: model, optimizer and random generators."""

    def __init__(self, model: ResidualAutoencoder, inputs: Tensor, seed: int) -> None:
        self.model, self.inputs, self.options = model, inputs, model.settings
        self.rng = np.random.default_rng(seed)
        networks = [*model.encoder.parameters(), *model.decoder.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": networks, "weight_decay": self.options.rqvae_weight_decay},
                # decay would pull rarely used codes towards 0
                {"params": list(model.codebooks.parameters()), "weight_decay": 0.0},
            ],
            lr=self.options.rqvae_learning_rate,
            fused=inputs.device.type in ("cpu", "cuda"),
        )
        books = list(model.codebooks.parameters())
        self.averages = MovingCodebooks(books) if self.options.rqvae_codebook == "ema" else None
        per_step = max(LEAST_BATCH, math.ceil(len(inputs) / LEAST_STEPS))
        self.batch_size = min(self.options.rqvae_batch_size, per_step)
        self.baseline = max(float(inputs.pow(2).mean()), 1e-12)

    def run(self, bar: Any) -> int:
        """Train until ``rqvae_epochs`` or until nothing has improved for ``rqvae_patience`` epochs.

        Returns:
            The number of epochs, warm-up included. The model is left in its best state.
        """
        warm_up = math.ceil(WARM_UP_SHARE * self.options.rqvae_epochs)
        for _ in range(warm_up):
            self._epoch(quantized=False)
            bar.update()
        with torch.no_grad():
            initialise(self.model, self.model.encoder(self.inputs), self.rng)
        best, best_epoch, best_state = self._score()[0], warm_up, copy.deepcopy(self.model.state_dict())
        epoch = warm_up
        while epoch < self.options.rqvae_epochs and epoch - best_epoch < self.options.rqvae_patience:
            self._epoch(quantized=True)
            epoch += 1
            bar.update()
            if epoch % CHECK_EVERY and epoch < self.options.rqvae_epochs:
                continue
            score, codes, residuals = self._score()
            bar.set_postfix_str(f"score {score:.4f}", refresh=False)
            if score < best:
                best, best_epoch, best_state = score, epoch, copy.deepcopy(self.model.state_dict())
            moved = revive(self.model, codes, residuals, self.rng)
            if self.averages:
                self.averages.forget(moved)
        self.model.load_state_dict(best_state)
        return epoch

    def _epoch(self, *, quantized: bool) -> None:
        n = len(self.inputs)
        if quantized:
            self.model.before_epoch(self.rng)
        order = torch.from_numpy(self.rng.permutation(n)).to(self.inputs.device)
        # batches of equal size: on a small remainder, Sinkhorn would spread few items over all codes
        for rows in order.chunk(math.ceil(n / self.batch_size)):
            error, result = self.model.autoencode(self.inputs[rows], quantized=quantized)
            total = error
            if result is not None:
                total = error + self.options.rqvae_loss_weight * result.loss
                total = total + self.model.more_loss(rows, result, self.rng)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            self.optimizer.step()
            if self.averages and result is not None:
                self.averages.update(result)
        final = float(total.detach())
        if not math.isfinite(final):
            raise UserError(
                f"rqvae_learning_rate={self.options.rqvae_learning_rate}: the RQ-VAE's loss became {final}. "
                "Use a lower learning rate."
            )

    @torch.no_grad()
    def _score(self) -> tuple[float, np.ndarray, Tensor]:
        """Return the score to minimise, with the catalogue's nearest codes [n, L] and residuals [n, L, d].

        Both terms are of the order of 1 and both matter: distinct paths and meaningful codes.
        """
        result = self.model.quantize(self.model.encoder(self.inputs))
        codes = result.codes.cpu().numpy()
        error = float(functional.mse_loss(self.model.decoder(result.vectors), self.inputs))
        error = (error + self.model.penalty(result)) / self.baseline
        return collision_rate(codes) + error, codes, result.residuals
