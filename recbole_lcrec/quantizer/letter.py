"""LETTER (Wang et al. 2024, arXiv 2405.07314): an RQ-VAE whose codes know who interacts with what, and are diverse.

As published, two losses are added to the RQ-VAE's. *Collaborative alignment*: the quantized embedding of an item and
its embedding from a trained recommender are a pair to be told apart from the pairs with other items of the batch (a
softmax over inner products). *Diversity*: the codes of a level are clustered into groups of equal size, and an item's
code is drawn towards another one of its group and away from all others of the level, so that codes spread.

What differs:

- The recommender is a finished run of this package on the same split (option ``collaborative_from``).
- Its embeddings are brought to ``latent_dim`` dimensions by their principal components, centred, and scaled to a mean
  squared length of ``latent_dim``: the inner products then neither vanish nor explode, for any recommender.
- Items that the recommender does not know (no interactions in the data) take no part in the alignment, and new items
  are placed by their text alone.
- Warm-up, k-means start, revival of unused codes and early stop are those of ``rqvae``.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from recbole_lcrec.quantizer.autoencoder import Quantized, ResidualAutoencoder
from recbole_lcrec.quantizer.base import Inputs
from recbole_lcrec.quantizer.kmeans import kmeans_centres
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.quantizer.training import train
from recbole_lcrec.utils.errors import UserError

_JUDGED = 2048
"""Items on which the alignment of a state is measured: a softmax over all of a large catalogue would not fit."""


def alignment_loss(vectors: Tensor, collaborative: Tensor) -> Tensor:
    """Return the mean of -log softmax_j(<z_i, h_j>) at j = i over a batch: z_i must pick its h_i among the others.

    Args:
        vectors: Quantized embeddings z [n, d].
        collaborative: Collaborative embeddings h [n, d].
    """
    own = torch.arange(len(vectors), device=vectors.device)
    return functional.cross_entropy(vectors @ collaborative.T, own)


def diversity_loss(book: Tensor, chosen: Tensor, partners: Tensor) -> Tensor:
    """Return the mean of -log softmax(<e_c, e_j>) at j = c's partner, over all codes j of the level except c itself.

    Args:
        book: Embeddings of the level's codes, [K, d].
        chosen: The items' codes c, int64 [n].
        partners: A code of the same group for each, int64 [n]; if its group has no other, the code itself, and the
            item does not count.
    """
    has_partner = partners != chosen
    if not bool(has_partner.any()):
        return book.new_zeros(())
    chosen, partners = chosen[has_partner], partners[has_partner]
    products = book[chosen] @ book.T
    products = products.scatter(1, chosen.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(products, partners)


def equal_groups(book: np.ndarray, n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """Return the group of each code [K, d], int64 [K]: near k-means centres, with sizes that differ by at most 1."""
    centres = kmeans_centres(np.ascontiguousarray(book), n_groups, rng)
    places = np.arange(len(book)) % n_groups  # the places that each group offers
    distances = ((book[:, None] - centres[None]) ** 2).sum(-1)
    return places[linear_sum_assignment(distances[:, places])[1]]


def fitted_targets(collaborative: np.ndarray, dimensions: int) -> np.ndarray:
    """Return collaborative embeddings [n, d] as principal components float32 [n, dimensions]; NaN rows stay NaN.

    They are centred and scaled to a mean squared length of ``dimensions``; missing components are 0.
    """
    known = np.isfinite(collaborative).all(axis=1)
    points = collaborative[known].astype(np.float64)
    points -= points.mean(axis=0)
    left, sizes, axes = np.linalg.svd(points, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])  # an axis has no sign of its own
    components = (left * sizes * signs)[:, :dimensions]
    length = np.sqrt((components**2).sum(axis=1).mean())
    targets = np.full((len(collaborative), dimensions), np.nan, dtype=np.float32)
    targets[known] = 0
    targets[np.ix_(known, np.arange(components.shape[1]))] = components * (np.sqrt(dimensions) / max(length, 1e-12))
    return targets


class LETTER(ResidualAutoencoder):
    """An RQ-VAE with collaborative alignment and diverse codes; see the module."""

    needs_collaborative = True
    _targets: Tensor | None = None  # while it is trained
    _groups: list[np.ndarray] | None = None

    @classmethod
    def fit(
        cls, inputs: Inputs, settings: QuantizerSettings, *, seed: int, device: str, show_progress: bool
    ) -> tuple[Self, dict[str, Any]]:
        """Train on embeddings and collaborative embeddings."""
        assert inputs.embeddings is not None and inputs.collaborative is not None
        known = np.isfinite(inputs.collaborative).all(axis=1)
        if known.sum() < 2:
            raise UserError("quantizer=letter: no two items have a collaborative embedding. Use quantizer=rqvae.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = cls(inputs.embeddings.shape[1], settings)
        model._targets = torch.from_numpy(fitted_targets(inputs.collaborative, settings.latent_dim)).to(device)
        report = train(model, inputs.embeddings, seed=seed, device=device, show_progress=show_progress)
        model._targets = model._groups = None
        return model, {**report, "aligned_items": int(known.sum())}

    def before_epoch(self, rng: np.random.Generator) -> None:
        """Put the codes of every level into groups."""
        n_groups, books = self.settings.own["letter_clusters"], self._books()
        self._groups = [equal_groups(book, min(n_groups, max(1, len(book) // 2)), rng) for book in books]

    def more_loss(self, rows: Tensor, result: Quantized, rng: np.random.Generator) -> Tensor:
        """Return the weighted alignment and diversity losses of a batch, a scalar."""
        assert self._targets is not None and self._groups is not None
        own, latents = self.settings.own, result.residuals[:, 0]
        targets = self._targets[rows]
        known = targets.isfinite().all(dim=1)
        # straight-through, as towards the decoder
        passed = latents + (result.vectors - latents).detach()
        loss = latents.new_zeros(())
        if own["letter_alignment"] and int(known.sum()) > 1:
            loss = loss + own["letter_alignment"] * alignment_loss(passed[known], targets[known])
        if own["letter_diversity"]:
            for book, chosen, groups in zip(self.codebooks, result.codes.unbind(1), self._groups, strict=True):
                partners = torch.from_numpy(_partners(chosen.cpu().numpy(), groups, rng)).to(chosen.device)
                loss = loss + own["letter_diversity"] * diversity_loss(book, chosen, partners)
        return loss

    def penalty(self, result: Quantized) -> float:
        """Return the weighted alignment loss of the catalogue's first items, for the choice of the best state."""
        assert self._targets is not None
        targets = self._targets[:_JUDGED]
        known = targets.isfinite().all(dim=1)
        weight = float(self.settings.own["letter_alignment"])
        return weight * float(alignment_loss(result.vectors[:_JUDGED][known], targets[known])) if weight else 0.0


def _partners(chosen: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return another code of the same group for each of ``chosen`` [n]; the code itself if there is none."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - starts[groups[order]]
    size = sizes[groups[chosen]]
    further = rng.integers(1, np.maximum(size, 2))  # 1 to size - 1
    return order[starts[groups[chosen]] + (place[chosen] + np.where(size > 1, further, 0)) % size]
