"""``precision: auto`` and ``attention: auto`` take what is fastest, and leave a training as it would have been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, save_checkpoint, write_dataset

from recbole_lcrec.config.saved_run import check_evaluation
from recbole_lcrec.experiment import Experiment, build
from recbole_lcrec.training import measuring, training_settings
from recbole_lcrec.utils.errors import UserError


def experiment(tmp_path: Path, **options: Any) -> Experiment:
    places = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    places["output_dir"] = str(tmp_path / "out")
    return build("LCRec", "toy", {**TINY, **places, "tasks": ["seqrec"], "lm_dropout": 0.2, **options})


@pytest.mark.parametrize(
    ("seconds", "losses", "expected"),
    [
        ({"fp32": 3.0, "bf16": 2.0, "bf16_weights": 1.0}, {}, "bf16_weights"),
        ({"fp32": 3.0, "bf16": 2.0, "bf16_weights": 1.9}, {}, "bf16"),
        ({"fp32": 3.0, "bf16": 2.8, "bf16_weights": 3.1}, {}, "fp32"),
        ({"fp32": 3.0, "bf16": 2.0, "bf16_weights": 1.0}, {"bf16_weights": float("nan")}, "bf16"),
        ({"fp32": 3.0, "bf16": 2.0, "bf16_weights": 1.0}, {"bf16_weights": None, "bf16": 9.0}, "fp32"),
    ],
)
def test_less_precision_has_to_pay(
    seconds: dict[str, float], losses: dict[str, float | None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(measuring.time, "process_time", lambda: now[0])
    weight = torch.ones(1, requires_grad=True)

    def loss(name: str) -> torch.Tensor:
        now[0] += seconds[name]
        value = losses.get(name, 4.0)
        if value is None:
            raise RuntimeError("no such kernel")
        return weight.sum() * value

    found = measuring._fastest("precision", list(seconds), loss, torch.nn.Linear(1, 1), torch.device("cpu"))
    assert found == expected


@pytest.mark.parametrize("native", [True, False])
def test_a_training_takes_the_course_that_it_takes_with_what_was_chosen(
    tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measuring, "native_bfloat16", lambda device: native)
    caplog.set_level("INFO")
    measured = experiment(tmp_path, precision="auto", attention="auto")
    chosen = {name: measured.config[name] for name in ("precision", "attention")}
    assert chosen["precision"] in ("fp32", "bf16", "bf16_weights") and chosen["attention"] in ("sdpa", "eager")
    assert set(chosen) <= set(measured.config["sized_by_data"]), "a comparison knows that these were not given"
    assert ("bf16_weights" in caplog.text) == native, "where bfloat16 is emulated, a step in it could take an hour"
    assert native or chosen["precision"] == "fp32"
    loss = measured.trainer._train_epoch(measured.train_data, 0)
    given = experiment(tmp_path, **chosen)
    assert measured.config.resolved() | {"sized_by_data": []} == given.config.resolved()
    assert given.trainer._train_epoch(given.train_data, 0) == loss


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_half_weights_learn_in_full_precision(tmp_path: Path, tuning: str) -> None:
    base = {"base_model": str(save_checkpoint(tmp_path / "llama", "llama")), "tuning": tuning, "max_length": 400}
    made = experiment(tmp_path, **base, precision="bf16_weights", attention="eager", lm_dropout=0.0, lora_dropout=0.0)
    trainer, model = made.trainer, made.model
    batch = next(iter(made.train_data))
    loss = trainer.losses_of(batch, model.calculate_loss)
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    with torch.autocast("cpu", enabled=False):
        expected = experiment(tmp_path, **base, precision="fp32", attention="eager", lm_dropout=0.0, lora_dropout=0.0)
    plain = expected.model.calculate_loss(batch)
    plain.backward()
    assert loss.dtype == torch.float32 and 0 < abs(loss.item() - plain.item()) < 0.02 * plain.item()
    for name, weight in expected.model.named_parameters():
        if weight.requires_grad and float(weight.grad.norm()) > 1e-4:
            assert gradients[name].dtype == torch.float32
            difference = float((gradients[name] - weight.grad).norm() / weight.grad.norm())
            assert difference < 0.15, name
    kinds = {weight.requires_grad: weight.dtype for weight in model.parameters()}
    assert kinds == ({True: torch.float32} if tuning == "full" else {True: torch.float32, False: torch.bfloat16})


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bfloat16_is_warned_about(
    tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training_settings, "native_bfloat16", lambda device: native)
    experiment(tmp_path, precision="bf16")
    assert ("precision=bf16: this processor has no bfloat16 arithmetic" in caplog.text) != native


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision=bf16_weights: it does not go with gradient_checkpointing=True"):
        experiment(tmp_path, precision="bf16_weights", gradient_checkpointing=True)
    with pytest.raises(UserError, match="attention=auto is measured when a training begins. This run has .*=eager"):
        check_evaluation({"attention": "auto"}, {"attention": "eager"})
