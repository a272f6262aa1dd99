"""What trainer, evaluation, saving and serving ask of models: which of them can do what."""

from __future__ import annotations

import pytest
from recbole.model.sequential_recommender import SASRec

from recbole_lcrec.config.registry import model_class, part
from recbole_lcrec.model import interface as asks

RANKER = {asks.HasSettings, asks.ChecksModels, asks.WeighsBatches, asks.DescribesBatches, asks.KeepsOwnWeights}
RANKER |= {asks.RecommendsRows, asks.HasCatalogue, asks.SavesAssets, asks.HasPrecisions}
GENERATOR = {asks.HasSettings, asks.ChecksOptions, asks.WeighsBatches, asks.RecommendsTopItems, asks.RecommendsRows}
GENERATOR |= {asks.HasCatalogue, asks.UsesCatalogue, asks.UsesQueries, asks.SavesAssets, asks.HasPrecisions}
ABILITIES = {
    "LCRec": GENERATOR | RANKER | {asks.SearchesRows, asks.LearnsPreferences},
    "TIGER": GENERATOR,
    "P5CID": GENERATOR | {asks.ChecksModels},
    "TALLRec": RANKER,
    "InstructRec": RANKER,
    "LIGER": GENERATOR | RANKER | {asks.SearchesRows, asks.LearnsPreferences},
    "SASRecText": {asks.HasSettings, asks.SavesAssets},
    "ExactPop": set(),
}


def abilities(found: type) -> set[type]:
    """Return the protocols whose methods a class has; models of ours have their catalogue once they are made."""
    if hasattr(found, "recommend_rows"):
        found = type(found.__name__, (found,), {"catalogue": None})
    everything = [
        value for value in vars(asks).values() if isinstance(value, type) and value.__module__ == asks.__name__
    ]
    return {one for one in everything if isinstance(found, one)}  # type: ignore[misc]


@pytest.mark.parametrize("model", ABILITIES)
def test_models_have_the_abilities_that_they_are_asked_for(model: str) -> None:
    assert abilities(model_class(model)) == ABILITIES[model]


def test_a_plain_recbole_model_is_asked_for_nothing() -> None:
    assert abilities(SASRec) == set()


def test_data_modules_and_loaders() -> None:
    for model in ("LCRec", "TIGER", "P5CID", "TALLRec"):
        assert isinstance(part(model, "dataset"), asks.PreparesCatalogue)
        assert isinstance(part(model, "train_loader"), asks.CountsEpochs)
