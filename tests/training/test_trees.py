"""RecBole's tree trainers with what an experiment asks of every trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole.trainer.trainer import AbstractTrainer

from recbole_lcrec.training.trainer import with_features


class Trees(AbstractTrainer):
    """Stands for RecBole's LightGBMTrainer."""

    def __init__(self, config: Any, model: Any) -> None:
        self.done: list[str] = []

    def fit(self, train_data: Any, valid_data: Any = None) -> tuple[float, None]:
        self.done.append("fit")
        return 0.5, None

    def evaluate(self, eval_data: Any, load_best_model: bool = True) -> dict[str, float]:
        return {"auc": 0.5}


def test_trees_train_and_are_evaluated_without_epochs_wordings_or_states(tmp_path: Path) -> None:
    cls = with_features(Trees)
    assert with_features(cls) is cls and cls.__name__ == "Trees"
    trainer = cls({"checkpoint_dir": str(tmp_path), "logger": []}, None)
    trainer.starting(lambda: trainer.done.append("announced"))
    assert trainer.fit(None) == (0.5, None)
    trainer.announce()
    assert trainer.done == ["announced", "fit"]
    assert trainer.evaluate(None, load_best_model=False, prompts=(0,), ranks=None) == {"auc": 0.5}
    assert not trainer.has_epochs and not trainer.keeps_states and trainer.chronicle.curve.points == []
    with trainer.team.evaluation():
        pass
