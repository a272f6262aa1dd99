"""The lines of the log while a model is trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.training import chronicle as module
from recbole_lcrec.training.chronicle import Chronicle
from recbole_lcrec.utils.timer import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (8.26, "8.3 s"), (99.4, "99 s"), (150, "2.5 min"), (720, "12 min"), (12_600, "3.5 h")],
)
def test_durations_have_the_digits_that_matter(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_lines_tell_place_time_left_means_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    config: dict[str, Any] = {
        "logger": [], "eval_step": 1, "metric_decimal_place": 4, "loss_decimal_place": None, "valid_metric": "NDCG@5",
    }  # fmt: skip
    told = Chronicle(config, tmp_path)
    told.start()
    caplog.set_level(logging.INFO)
    now[0] += 60
    told.trained(0, 4, (1.5, 0.25), 0.001)
    now[0] += 10
    told.validated({"ndcg@5": 0.25}, is_best=True, best_epoch=None)
    now[0] += 60
    told.trained(1, 4, 1.5, 0.001)
    now[0] += 20
    told.validated({"ndcg@5": 0.2}, is_best=False, best_epoch=0)
    told.ended({"ndcg@5": 0.25}, best_epoch=0, bad_validations=1)
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1 of 4, about 3.0 min left without the validations: training loss 1.7500 in 60 s",
        "epoch 1 of 4: validation ndcg@5 0.2500 in 10 s; the best so far",
        "epoch 2 of 4, about 2.5 min left: training loss 1.5000 in 60 s",
        "epoch 2 of 4: validation ndcg@5 0.2000 in 20 s; the best is epoch 1",
        "Stopped after epoch 2 of 4 and 2.5 min: 1 validation in a row without a better NDCG@5. The best is epoch 1.",
    ]
    assert [point["train_loss"] for point in told.curve.points] == [1.75, 1.5]
