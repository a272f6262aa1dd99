"""Averaged weights: their formula, what is validated and saved, and a resumed training."""

from __future__ import annotations

import torch
from torch import nn

from recbole_lcrec.training.averaging import WeightAverage


def test_the_average_is_the_plain_recursion_and_leaves_the_weights() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average, expected = WeightAverage(model, decay=0.9), model.weight.detach().clone()
    for step in range(1, 100):
        with torch.no_grad():
            model.weight.normal_()
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    raw, bias = model.weight.detach().clone(), model.bias.detach().clone()
    with average.in_use():
        torch.testing.assert_close(model.weight.detach(), expected)
        assert torch.equal(model.bias, bias)
    assert torch.equal(model.weight, raw), "bit for bit the weights that are trained on"


def test_an_average_goes_on_from_its_state() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    average, resumed = WeightAverage(model, 0.99), WeightAverage(other, 0.99)
    for part in range(6):
        if part == 3:
            resumed.load({name: torch.as_tensor(value).clone() for name, value in average.state().items()})
        with torch.no_grad():
            model.weight.normal_(generator=torch.Generator().manual_seed(part))
            other.weight.copy_(model.weight)
        average.update()
        if part >= 3:
            resumed.update()
    with average.in_use(), resumed.in_use():
        assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias)
