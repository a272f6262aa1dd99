"""Trainer features: schedules, accumulation for RecBole's models, small catalogues, special trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import write_dataset
from recbole.trainer import KGTrainer, Trainer

from recbole_lcrec.experiment import Experiment, build
from recbole_lcrec.training.optimization import learning_rate_factor
from recbole_lcrec.training.trainer import FeatureTrainer, with_features
from recbole_lcrec.utils.errors import UserError


def experiment(tmp_path: Path, model: str = "SASRec", **options: Any) -> Experiment:
    base = {"data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "o"), "show_progress": False}
    return build(model, "toy", {**base, "use_gpu": False, **options})


def test_schedule() -> None:
    factors = [learning_rate_factor(step, 110, 10, "cosine") for step in range(111)]
    assert factors[0] == pytest.approx(1 / 11) and factors[10] == 1 and factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0) and factors == factors[:10] + sorted(factors[10:], reverse=True)
    assert learning_rate_factor(50, 100, 0, "constant") == 1


def test_accumulation_equals_one_large_batch_for_recboles_models_too(tmp_path: Path) -> None:
    weights = []
    for size, steps in ((64, 1), (8, 8)):
        made = experiment(
            tmp_path, train_batch_size=size, gradient_accumulation_steps=steps, learner="sgd", shuffle=False,
            hidden_dropout_prob=0.0, attn_dropout_prob=0.0, learning_rate=0.1, epochs=1,
        )  # fmt: skip
        made.trainer._train_epoch(made.train_data, 0)
        weights.append(made.model.item_embedding.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=1e-5)


def test_special_trainers_keep_their_own_steps_and_get_our_features() -> None:
    mixed = with_features(KGTrainer)
    order = [cls.__name__ for cls in mixed.__mro__]
    assert order.index("FeatureTrainer") < order.index("Trainer") and mixed._train_epoch is KGTrainer._train_epoch
    assert mixed.evaluate is FeatureTrainer.evaluate and with_features(Trainer) is FeatureTrainer


@pytest.mark.parametrize("model", ["Pop", "SASRec"])
def test_a_catalogue_smaller_than_the_list_is_evaluated(tmp_path: Path, model: str) -> None:
    write_dataset(tmp_path, items=6)
    base = {"data_path": str(tmp_path), "output_dir": str(tmp_path / "o"), "show_progress": False, "epochs": 1}
    made = build(model, "toy", {**base, "use_gpu": False, "topk": [1, 10]})
    made.fit()
    result = made.evaluate("test", load_best=True)
    assert result is not None and result["hit@10"] == 1.0  # six items, a list of ten


def test_adamw_spares_biases_and_norms(tmp_path: Path) -> None:
    groups = experiment(tmp_path, learner="adamw", weight_decay=0.1).trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in groups[1]["params"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"learner": "adamm"}, "Did you mean 'adamw?'"),
        ({"lr_scheduler": "linear"}, "expected constant or cosine"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
    ],
)
def test_wrong_options_get_a_message(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        experiment(tmp_path, **options)


def test_a_loss_that_is_no_number_stops_with_its_step(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    with torch.no_grad():
        made.model.item_embedding.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="epoch 1, step 1, batch 1"):
        made.trainer._train_epoch(made.train_data, 0)
