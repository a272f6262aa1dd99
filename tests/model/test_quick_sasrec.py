"""The quick SASRec is RecBole's: the same losses, gradients, random numbers and ranks, with and without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, write_dataset
from recbole.model.sequential_recommender import SASRec
from torch import Tensor

from recbole_lcrec import build, run
from recbole_lcrec.model import quick_sasrec
from recbole_lcrec.model.quick_sasrec import QuickSASRec

SMALL: dict[str, Any] = {**TINY, "hidden_size": 8, "inner_size": 12, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 8}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    places = {"data_path": str(write_dataset(folder)), "output_dir": str(folder / "out")}
    return {**SMALL, **places, **changes}


def histories(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    items = torch.randint(1, 31, (len(lengths), 8), generator=generator)
    return items * (torch.arange(8) < torch.tensor(lengths)[:, None]), torch.tensor(lengths)


def loss_and_gradients(model: QuickSASRec, forward: Any, items: Tensor, lengths: Tensor) -> tuple[Any, ...]:
    torch.manual_seed(5)
    model.zero_grad()
    states = forward(model, items, lengths)
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    last = f"layer.{len(model.trm_encoder.layer) - 1}.multi_head_attention.key.bias"  # has no influence
    gradients = {name: p.grad for name, p in model.named_parameters() if not name.endswith(last)}
    return states.detach(), gradients, torch.rand(1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build("SASRec", "toy", options(tmp_path_factory.mktemp("toy")))


def model_of(toy: Any, **changes: Any) -> QuickSASRec:
    for name, value in changes.items():
        toy.config[name] = value
    return QuickSASRec(toy.config, toy.train_data._dataset).train()


@pytest.mark.parametrize("lengths", [[8, 7, 8, 6], [1, 2, 8, 1, 3, 1, 2], [1], [3, 2]])
@pytest.mark.parametrize(("layers", "rates"), [(2, (0.5, 0.3)), (1, (0.0, 0.2)), (3, (0.0, 0.0))])
def test_states_gradients_and_random_numbers_are_those_of_recbole(
    toy: Any, lengths: list[int], layers: int, rates: tuple[float, float]
) -> None:
    assert type(toy.model) is QuickSASRec
    model = model_of(toy, n_layers=layers, hidden_dropout_prob=rates[0], attn_dropout_prob=rates[1])
    items, lengths_of = histories(lengths)
    states, gradients, following = loss_and_gradients(model, SASRec.forward, items, lengths_of)
    found = loss_and_gradients(model, QuickSASRec.forward, items, lengths_of)
    assert torch.equal(found[2], following), "the generator is left where RecBole leaves it"
    torch.testing.assert_close(found[0], states)
    torch.testing.assert_close(found[1], gradients, atol=1e-6, rtol=1e-5)


def test_a_training_ends_with_the_same_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = run("SASRec", "toy", options(tmp_path, epochs=2))
    monkeypatch.setattr(QuickSASRec, "forward", SASRec.forward)
    monkeypatch.setattr(quick_sasrec.functional, "gelu", lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)))
    plain = run("SASRec", "toy", options(tmp_path, epochs=2, output_dir=str(tmp_path / "plain")))
    assert quick["test_result"] == plain["test_result"] and quick["best_valid_result"] == plain["best_valid_result"]
    assert (tmp_path / "out" / "ranks.csv.gz").read_bytes() == (tmp_path / "plain" / "ranks.csv.gz").read_bytes()


def test_own_masks_keep_the_rate_and_the_mean(toy: Any) -> None:
    model = model_of(toy, n_layers=2, exact_dropout=False, hidden_dropout_prob=0.5, attn_dropout_prob=0.1)
    items, lengths = (some.repeat_interleave(500, dim=0) for some in histories([8, 2, 1, 1]))
    with torch.no_grad():
        torch.manual_seed(0)
        states = model(items, lengths).view(4, 500, -1)
        torch.manual_seed(0)
        plain = SASRec.forward(model, items, lengths).view(4, 500, -1)
    assert not torch.equal(states, plain)
    torch.testing.assert_close(states.mean(dim=1), plain.mean(dim=1), atol=0.2, rtol=0)
    torch.testing.assert_close(states.std(dim=1), plain.std(dim=1), atol=0.2, rtol=0)
    mask = quick_sasrec._drawn_quickly((99, 999), 0.3, torch.device("cpu"))
    assert mask is not None and mask.unique().tolist() == pytest.approx([0.0, 1 / 0.7], abs=1e-4)
    assert float(mask.mean()) == pytest.approx(1, abs=0.01)
