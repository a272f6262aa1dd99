"""Which rows an epoch has, and which share a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from recbole.data.interaction import Interaction

from recbole_lcrec.data.batches import batches_by_length, epoch_rows, on_device
from recbole_lcrec.experiment import build
from recbole_lcrec.training import evaluation, trainer


def test_every_row_comes_as_often_as_any_other() -> None:
    epochs = [epoch_rows(10, 4, epoch, seed=3).tolist() for epoch in range(5)]
    assert all(len(set(rows)) == 4 for rows in epochs[:2])
    assert sorted(sum(epochs, [])) == sorted(list(range(10)) * 2)
    assert sorted(sum(epochs, [])[:10]) == list(range(10)), "one whole pass after another"
    long = epoch_rows(10, 25, 0, seed=3)
    assert set(np.bincount(long)) == {2, 3}


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    assert epoch_rows(10, 4, 3, seed=1).tolist() == epoch_rows(10, 4, 3, seed=1).tolist()
    assert epoch_rows(100, 100, 0, seed=1).tolist() != epoch_rows(100, 100, 0, seed=2).tolist()
    assert epoch_rows(100, 100, 0, seed=1).tolist() != epoch_rows(100, 100, 1, seed=1).tolist()


def batches(step: int, accumulated: int, *, shuffle: bool = True) -> list[list[int]]:
    lengths = np.random.default_rng(0).integers(1, 21, size=1003)
    rng = np.random.default_rng(5)
    return [batch.tolist() for batch in batches_by_length(lengths, step, accumulated, rng, shuffle=shuffle)]


def test_batches_hold_every_sample_once_and_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 21, size=1003)
    found = batches(16, 1)
    assert sorted(sum(found, [])) == list(range(1003))
    assert [len(batch) for batch in found[:-1]] == [16] * 62 and len(found[-1]) == 11, "the short one stays last"
    assert np.mean([np.ptp(lengths[batch]) for batch in found]) < 3, "random batches span nearly 20"
    means = [lengths[batch].mean() for batch in found]
    assert np.abs(np.diff(means)).mean() > 3, "short and long batches alternate"


def test_accumulated_batches_are_the_large_ones_cut() -> None:
    large, small = batches(16, 1), batches(4, 4)
    assert sum(small, []) == sum(large, [])
    assert [batch for i in range(62) for batch in [sum(small[4 * i : 4 * i + 4], [])]] == large[:62]
    assert sum(batches(16, 1, shuffle=False), []) != sum(large, [])


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cpu", "meta"])
def test_batches_for_a_gpu_are_pinned_and_copied_without_waiting(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        calls.append(("pin", self.tolist()))
        return self

    def to(self: torch.Tensor, where: torch.device, **options: Any) -> torch.Tensor:
        calls.append(("to", str(where), options))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    batch = Interaction({"a": torch.tensor([1, 2]), "b": torch.tensor([0.5, 1.0])})
    moved = on_device(batch, torch.device(device))
    assert sorted(moved.columns) == ["a", "b"] and moved["a"].tolist() == [1, 2]
    if device.startswith("cuda"):
        copied = ("to", device, {"non_blocking": True})
        assert calls == [("pin", [1, 2]), copied, ("pin", [0.5, 1.0]), copied]
    else:
        assert calls == [("to", device, {})] * 2


def test_training_and_evaluation_move_their_batches_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path)
    places = {"data_path": str(tmp_path), "cache_dir": str(tmp_path / "c"), "output_dir": str(tmp_path / "o")}
    experiment = build("LCRec", "toy", {**TINY, **places, "valid_users": 10})
    seen: list[tuple[str, ...]] = []

    def noting(batch: Any, device: torch.device) -> Any:
        assert device == torch.device("cpu")
        seen.append(tuple(batch.columns))
        return on_device(batch, device)

    for module in (trainer, evaluation):
        monkeypatch.setattr(module, "on_device", noting)
    experiment.trainer._train_epoch(experiment.train_data, 0)
    assert len(seen) == len(experiment.train_data)
    experiment.trainer._valid_epoch(experiment.valid_data)
    assert len(seen) == len(experiment.train_data) + len(experiment.valid_data) and "item_id_list" in seen[-1]
