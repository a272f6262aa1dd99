"""The checkpoint format keeps tied weights and RecBole's other_parameter, and loads nothing unsafe."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from recbole_lcrec.training.checkpoint import STATE, load_checkpoint, save_checkpoint, write_manifest
from recbole_lcrec.utils.errors import UserError


class Model(torch.nn.Module):
    def __init__(self, other: Any = None) -> None:
        super().__init__()
        self.a = torch.nn.Linear(3, 3, bias=False)
        self.b = torch.nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.other = other

    def other_parameter(self) -> dict[str, Any]:
        return {"other": self.other}

    def load_other_parameter(self, values: dict[str, Any]) -> None:
        self.other = values["other"]


@pytest.mark.parametrize(
    "other",
    [
        None,
        3,
        torch.arange(4),
        np.arange(6.0).reshape(2, 3),
        scipy.sparse.random(5, 4, 0.5, "csc"),
        {"k": [1, (2.5, "x")]},
    ],
)
def test_round_trip(tmp_path: Path, other: Any) -> None:
    saved = Model(other)
    save_checkpoint(tmp_path / "c", saved, {"epoch": 3})
    loaded = Model()
    assert load_checkpoint(tmp_path / "c", loaded) == {"epoch": 3}
    assert torch.equal(loaded.a.weight, saved.a.weight) and loaded.b.weight is loaded.a.weight
    if scipy.sparse.issparse(other):
        assert loaded.other.format == "csc" and (loaded.other != other).nnz == 0
    elif isinstance(other, (np.ndarray, torch.Tensor)):
        assert (loaded.other == other).all()
    else:
        assert loaded.other == other


def test_what_cannot_be_stored_safely_is_refused_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", Model(1), {})
    with pytest.raises(TypeError, match="other_parameter 'other'"):
        save_checkpoint(tmp_path / "c", Model(object()), {})
    model = Model()
    load_checkpoint(tmp_path / "c", model)
    assert model.other == 1 and [p.name for p in tmp_path.iterdir()] == ["c"]


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


def test_pickles_are_not_run_and_broken_files_get_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "c", Model(), {})
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "missing", Model())
    (tmp_path / "c" / STATE).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"no readable checkpoint \(state\.pt has"):
        load_checkpoint(tmp_path / "c", Model())
    write_manifest(tmp_path / "c")  # as somebody would who wants it to be loaded
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "c", Model())
    assert not Path("pwned").exists()
