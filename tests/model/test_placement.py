"""Models compute on another device what they compute on the CPU: every tensor they make follows them.

The other device is a stand-in (``fake_device``): it computes on the CPU and refuses to mix with tensors of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from candidate_helpers import options as candidate_options
from fake_device import DEVICE, Far, fake_device
from t5_helpers import options

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.experiment import Experiment, build
from recbole_lcrec.model.generative import GenerativeRecommender

GENERATIVE = ("LCRec", "TIGER", "P5CID")
RANKERS = ("TALLRec", "InstructRec")


def there(model: str, given: dict[str, Any]) -> Experiment:
    """Build an experiment on the other device."""
    config = LCRecConfig(model, "toy", config_dict=given)
    config["device"] = DEVICE
    return build(config=config)


@pytest.fixture(scope="module", params=[*GENERATIVE, *RANKERS])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Any]:
    """An experiment, and the same model on the other device."""
    folder, name = tmp_path_factory.mktemp("placement"), request.param
    given = {**(candidate_options if name in RANKERS else options)(folder), "eval_batch_size": 64}
    experiment = build(name, "toy", given)
    with fake_device():
        moved = there(name, given).model
    for model in (experiment.model, moved):
        model.eval()
    return experiment, moved


@pytest.fixture
def experiment(pair: tuple[Experiment, Any]) -> Experiment:
    return pair[0]


@pytest.fixture
def moved(pair: tuple[Experiment, Any]) -> Iterator[Any]:
    with fake_device():
        assert all(isinstance(weight, Far) for weight in pair[1].parameters())
        yield pair[1]


def near(values: Any) -> torch.Tensor:
    assert isinstance(values, Far)
    return values.near.detach()


def first_batch(loader: Any) -> Any:
    return next(iter(loader))


def test_loss_and_gradients(experiment: Experiment, moved: Any) -> None:
    batch = first_batch(experiment.train_data)
    loss = experiment.model.calculate_loss(batch)
    loss.backward()
    far = moved.calculate_loss(batch.to(DEVICE))
    far.backward()
    torch.testing.assert_close(near(far), loss.detach())
    for weight, other in zip(experiment.model.parameters(), moved.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None)
        if weight.grad is not None:
            torch.testing.assert_close(near(other.grad), weight.grad)
    experiment.model.zero_grad()


@torch.no_grad()
def test_recommendations(experiment: Experiment, moved: Any) -> None:
    if not isinstance(moved, GenerativeRecommender):
        pytest.skip("ranks candidates")
    interaction = first_batch(experiment.valid_data)[0]
    expected, found = (
        experiment.model.full_sort_top(interaction), moved.full_sort_top(interaction.to(DEVICE)),
    )  # fmt: skip
    torch.testing.assert_close(near(found.items), expected.items)
    torch.testing.assert_close(near(found.scores), expected.scores)
    scores = moved.full_sort_predict(interaction.to(DEVICE))
    torch.testing.assert_close(near(scores), experiment.model.full_sort_predict(interaction))
    histories = [experiment.model.catalogue.row_of_id[[1, 2, 3]], experiment.model.catalogue.row_of_id[[4]]]
    rows, _ = moved.recommend_rows(histories, 5)
    assert (rows == experiment.model.recommend_rows(histories, 5)[0]).all()


@torch.no_grad()
def test_scores_of_candidates(experiment: Experiment, moved: Any) -> None:
    interaction = first_batch(experiment.test_data)[0]
    interaction = interaction[: min(len(interaction), 12)]
    expected = experiment.model.predict(interaction)
    torch.testing.assert_close(near(moved.predict(interaction.to(DEVICE))), expected)


@pytest.mark.parametrize(("model", "precision"), [("LCRec", "bf16"), ("TIGER", "fp32")])
def test_a_trainer_trains_and_validates_there(model: str, precision: str, tmp_path: Path) -> None:
    given = options(tmp_path, valid_users=10, precision=precision)
    build(model, "toy", given)  # the index, on the CPU
    with fake_device():
        experiment = there(model, given)
        network, trainer = experiment.model, experiment.trainer
        before = [near(weight).clone() for weight in network.parameters()]
        loss = trainer._train_epoch(experiment.train_data, 0)
        assert 0 < loss < 100
        assert any((near(w) != old).any() for w, old in zip(network.parameters(), before, strict=True))
        _, result = trainer._valid_epoch(experiment.valid_data)
    assert set(result) == {f"{metric}@{k}" for metric in ("hit", "ndcg") for k in (1, 5, 10)}
    assert all(isinstance(value, float) for value in result.values())
