"""Reduced precision: forwards are cheaper, while weights, scores and metrics stay in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from t5_helpers import options

from recbole_lcrec.experiment import Experiment, build

MODELS = ("LCRec", "TIGER")


@pytest.fixture(scope="module", params=MODELS)
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return build(request.param, "toy", options(tmp_path_factory.mktemp("autocast"), valid_users=10, precision="bf16"))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_the_loss_is_near_that_of_full_precision(experiment: Experiment, kind: torch.dtype) -> None:
    model = experiment.model.eval()
    batch = next(iter(experiment.train_data))
    with torch.autocast("cpu", kind):
        loss = model.calculate_loss(batch)
    assert torch.isfinite(loss) and loss.item() == pytest.approx(model.calculate_loss(batch).item(), rel=0.02)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients and all(grad.dtype == torch.float32 and torch.isfinite(grad).all() for grad in gradients)
    model.zero_grad()


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_scores_are_float32(experiment: Experiment, kind: torch.dtype) -> None:
    model = experiment.model.eval()
    interaction = next(iter(experiment.valid_data))[0]
    plain = model.full_sort_top(interaction)
    with torch.autocast("cpu", kind):
        top, scores, asked = (f(interaction) for f in (model.full_sort_top, model.full_sort_predict, model.predict))
    assert top.scores.dtype == scores.dtype == asked.dtype == torch.float32
    assert torch.isfinite(scores).all() and (top.items > 0).all()
    torch.testing.assert_close(top.scores[:, 0], plain.scores[:, 0], rtol=0.03, atol=0.1)


def test_training_and_validation_run_under_the_precision(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[Any] = []
    for name in ("calculate_loss", "full_sort_top"):
        method = getattr(experiment.model, name)

        def noting(*arguments: Any, method: Any = method) -> Any:
            kinds.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
            return method(*arguments)

        monkeypatch.setattr(experiment.model, name, noting)
    loss = experiment.trainer._train_epoch(experiment.train_data, 0)
    _, result = experiment.trainer._valid_epoch(experiment.valid_data)
    assert 0 < loss < 1e3 and all(isinstance(value, float) for value in result.values())
    assert set(kinds) == {torch.bfloat16} and len(kinds) == len(experiment.train_data) + len(experiment.valid_data)
    assert {weight.dtype for weight in experiment.model.parameters()} == {torch.float32}
