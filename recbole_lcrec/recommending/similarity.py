"""Vectors of items, for what is near what.

Which vectors are used depends on the model, in this order:

1. a generative model whose histories are items (``history_input: item``): the vector it reads for each item;
2. any model with an item index built from embeddings: these (kept in the run, or made again from the texts);
3. a generative model with an index from elsewhere: the sum of the embeddings of each path's codes;
4. a model of RecBole with one embedding per item: these embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import registry
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.model.item_inputs import ItemInputs
from recbole_lcrec.recommending.lists import MODEL, TEXTS
from recbole_lcrec.utils.errors import UserError

_PREFERRED = ("item_embedding", "item_emb", "item_embeddings")


def item_vectors(experiment: Any) -> tuple[np.ndarray, str]:
    """Return unit vectors of all items that a model knows, and where they come from: ``model`` or ``texts``.

    Rows are catalogue rows for models with a catalogue, otherwise RecBole's item ids (row 0, the padding, is zero).

    Returns:
        float32 [n, d], and the source.

    Raises:
        UserError: For a model without vectors of items.
    """
    if registry.has_index(RunOptions(experiment.config).model):
        vectors, source = _of_catalogue(experiment)
    else:
        vectors, source = _of_recbole(experiment), MODEL
        vectors[0] = 0.0
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32), source


@torch.no_grad()
def _of_catalogue(experiment: Any) -> tuple[np.ndarray, str]:
    model, run = experiment.model, RunOptions(experiment.config)
    catalogue = model.catalogue
    inputs = base_model(model.lm).get_input_embeddings() if registry.is_generative(run.model) else None
    if isinstance(inputs, ItemInputs):
        return inputs.vectors().float().cpu().numpy(), MODEL
    if catalogue.embeddings is not None:
        return catalogue.embeddings, TEXTS
    maker = catalogue.indexed.maker
    if maker is not None and maker.encoder is not None and maker.encoder.embeds_texts:
        return maker.encoder.embed(catalogue.text.documents(), device=str(run.device)), TEXTS
    if inputs is None:
        raise _no_vectors(run.model)
    paths = torch.from_numpy(catalogue.paths).to(inputs.weight.device)
    return inputs(paths).sum(dim=1).float().cpu().numpy(), MODEL


def _of_recbole(experiment: Any) -> np.ndarray:
    """Return the embedding table of RecBole's items, float32 [n_items, d]: the one named for items, or the only one.

    Raises:
        UserError: If there is none.
    """
    n_items = experiment.dataset.item_num
    tables = {
        name: module.weight
        for name, module in experiment.model.named_modules()
        if isinstance(module, torch.nn.Embedding) and n_items <= len(module.weight) <= n_items + 1  # and a mask token
    }
    named = [name for name in (*_PREFERRED, *tables) if name in tables and "item" in name]
    chosen = named[0] if named else next(iter(tables), None)
    if chosen is None or (not named and len(tables) > 1):
        raise _no_vectors(RunOptions(experiment.config).model)
    return tables[chosen].detach()[:n_items].float().cpu().numpy().copy()


def _no_vectors(model: str) -> UserError:
    return UserError(
        f"similar_items: {model} has no vector of its own for each item. Use a model with item embeddings (BPR, "
        "SASRec, ...) or one whose item index was built of embeddings (LCRec, TIGER, ...)."
    )
