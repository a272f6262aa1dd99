"""What a training state is made of: random generators, attributes that a model changes, the newest whole folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from recbole_lcrec.training.attributes import ModelAttributes
from recbole_lcrec.training.checkpoint import pack, unpack
from recbole_lcrec.training.randomness import random_states, set_random_states
from recbole_lcrec.training.states import StateFolder, StateSettings
from recbole_lcrec.utils.timer import StageTimer


class Loader:
    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)


class Pair:
    """A loader of two, as RecBole's for graphs."""

    def __init__(self) -> None:
        self.general, self.graph = Loader(), Loader()
        self.graph.generator.manual_seed(2)


def draws(loader: Pair) -> list[float]:
    generators = [loader.general.generator, loader.graph.generator]
    return [
        random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn()), float(torch.rand(1)),
        *(float(torch.rand(1, generator=generator)) for generator in generators),
    ]  # fmt: skip


def test_all_generators_are_put_back(tmp_path: Path) -> None:
    loader = Pair()
    draws(loader)  # normal variates come in pairs: one is kept for later
    torch.save(random_states(loader), tmp_path / "states")
    states = torch.load(tmp_path / "states", weights_only=True)
    expected = draws(loader), draws(loader)
    set_random_states(states, loader)
    assert (draws(loader), draws(loader)) == expected
    set_random_states(states)  # without a loader, its generators go on
    again = draws(loader)
    assert again[:5] == expected[0][:5] and again[5:] != expected[0][5:]


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        self.update, self.same = 0, [1, {"a": 2}]
        self.history = torch.zeros(3)
        self.table = np.zeros(4)
        self.matrix = scipy.sparse.csr_matrix(np.eye(3))
        self.graph = torch.eye(3).to_sparse()
        self.inner.nested = [0, 1]
        self._cache = None
        self.generator = torch.Generator()
        self.register_buffer("position", torch.zeros(2), persistent=False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("/update", lambda model: setattr(model, "update", 5)),
        ("/history", lambda model: model.history.add_(1)),
        ("/history", lambda model: setattr(model, "history", torch.ones(3, requires_grad=True) * 2)),
        ("/table", lambda model: model.table.__setitem__(1, 3.0)),
        ("/matrix", lambda model: model.matrix.data.__setitem__(0, 7.0)),
        ("/graph", lambda model: setattr(model, "graph", (2 * torch.eye(3)).to_sparse())),
        ("inner/nested", lambda model: model.inner.nested.append(9)),
        ("/position", lambda model: model.position.add_(2)),
        ("/new", lambda model: setattr(model, "new", (1, None, "x"))),
    ],
)
def test_a_changed_attribute_is_found_and_brought_back(name: str, change: Any, tmp_path: Path) -> None:
    model = Model()
    attributes = ModelAttributes(model)
    assert attributes.changed() == {}
    model._cache = object()
    change(model)
    assert list(attributes.changed()) == [name]
    torch.save({key: pack(key, value) for key, value in attributes.changed().items()}, tmp_path / "values")
    values = torch.load(tmp_path / "values", weights_only=True)
    other = Model()
    taken = ModelAttributes(other)
    taken.take_up({key: unpack(value, "cpu") for key, value in values.items()})
    path, _, attribute = name.rpartition("/")
    found, expected = getattr(other.get_submodule(path), attribute), getattr(model.get_submodule(path), attribute)
    if scipy.sparse.issparse(expected):
        assert (found != expected).nnz == 0
    elif isinstance(expected, (torch.Tensor, np.ndarray)):
        dense = [value.to_dense() if isinstance(value, torch.Tensor) else value for value in (found, expected)]
        assert (dense[0] == dense[1]).all()
    else:
        assert found == expected
    assert list(taken.changed()) == [name], "what was taken up belongs to the next state too"


def test_a_generator_of_a_model_cannot_be_lost_in_silence() -> None:
    model = Model()
    attributes = ModelAttributes(model)
    torch.rand(1, generator=model.generator)
    with pytest.raises(TypeError, match="attribute '/generator' is a Generator"):
        pack("attribute '/generator'", attributes.changed()["/generator"])


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "resume", StateSettings(5, 2, False))
    assert [step for step in range(1, 16) if states.is_due(step)] == [5, 10, 15]
    assert states.newest_whole() is None
    for step in (5, 10, 15, 100_000_000):
        states.write(step, lambda folder: folder.mkdir(parents=True))
    assert [path.name for path in states.all()] == ["step-00000015", "step-100000000"]


def test_the_timer_counts_stages_that_run_and_those_of_an_earlier_process() -> None:
    timer = StageTimer()
    with timer("train"):
        assert timer.so_far()["train"] >= 0 and timer.seconds == {}
        timer.add({"train": 100.0, "index": 2.0})
    assert timer.seconds["train"] >= 100.0 and timer.seconds["index"] == 2.0
