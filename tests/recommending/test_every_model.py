"""Every model of RecBole recommends to users; those of histories to histories, or they say what they miss."""

from __future__ import annotations

from pathlib import Path

import pytest
from recbole.utils import ModelType
from recbole_models import options, read_table, write_everything

from recbole_lcrec import Recommender
from recbole_lcrec.experiment import build
from recbole_lcrec.utils.errors import UserError

TRAINING = [row.model for row in read_table() if row.trains == "yes"]
QUICK = ("BPR", "DeepFM", "DIEN", "GRU4RecF")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    write_everything(folder)
    return folder


@pytest.mark.parametrize(
    "model", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TRAINING]
)
def test_a_model_recommends(everything: Path, model: str) -> None:
    experiment = build(model, "all", {**options(model, everything), "output_dir": str(everything / model)})
    if experiment.config["MODEL_TYPE"] == ModelType.TRADITIONAL:  # these count in training, and know nothing before
        experiment.fit()
    recommender = Recommender(experiment)
    found = recommender.recommend_users(["u1", "u2", "u39"], 3)
    assert [len(one) for one in found] == [3, 3, 3]
    try:
        assert [len(one) for one in recommender.recommend([["i1", "i2"], ["i3"]], 3)] == [3, 3]
    except UserError as error:
        assert "no use for histories" in str(error) or "reads column" in str(error)
