"""The stage behind LCRec's training: what it learns from, what it keeps, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, save_checkpoint, write_dataset

from recbole_lcrec.experiment import Experiment, build
from recbole_lcrec.experiment.outputs import result_of
from recbole_lcrec.instruction.histories import HistoryLoader
from recbole_lcrec.training.averaging import WeightCopy
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
STAGE = {"preference_epochs": 2, "preference_samples": 48, "preference_candidates": 4, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("preferences"))


def made(folder: Path, name: str, **changes: Any) -> Experiment:
    values = {**TINY, **STAGE, "epochs": 1, "learning_rate": 0.01, "data_path": str(folder), **changes}
    return build("LCRec", "toy", {**values, "cache_dir": str(folder / "cache"), "output_dir": str(folder / name)})


def weights(experiment: Experiment) -> bytes:
    return (experiment.output_dir / "checkpoint" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("stage", "tuning"), [("dpo", "full"), ("grpo", "full"), ("dpo", "lora")])
def test_without_a_gain_the_tuned_model_stays_bit_for_bit(
    folder: Path, stage: str, tuning: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    changes: dict[str, Any] = {"tuning": tuning}
    if tuning == "lora":
        changes |= {"base_model": str(save_checkpoint(folder / "base", "llama")), "lora_dropout": 0.1}
        changes |= {"max_length": 400, "gradient_accumulation_steps": 1}
    plain = made(folder, f"plain-{tuning}", **changes)
    best = plain.fit()
    changes |= {"preference_stage": stage, "preference_learning_rate": 1e-12}
    still = made(folder, f"{stage}-{tuning}", **changes)  # anew, as it seeds dropout
    assert still.fit() == best, "an equal score is no gain"
    assert weights(still) == weights(plain)
    trained = {name for name, weight in still.model.named_parameters() if weight.requires_grad}
    assert still.trainer.stage_state()["reference"].keys() == trained, "the reference takes no more than this"
    assert f"Preferences ({stage}): nothing gained, ndcg@10 on validation was {best['ndcg@10']:.4f}" in caplog.text
    about = result_of(still, best, None)
    assert about["preferences"] == {
        "stage": stage, "tuned_epoch": 0, "tuned_valid_result": best, "gained": False
    }  # fmt: skip
    assert about["epochs"] == 3 and [point["epoch"] for point in about["learning_curve"]] == [0, 1, 2]
    assert "preferences" not in result_of(plain, best, None)


def test_a_gain_is_kept_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    experiment = made(folder, "gain", preference_stage="dpo", preference_learning_rate=0.003)
    seen: list[tuple[int, float]] = []
    best = experiment.fit(lambda epoch, score, result: seen.append((epoch, score)))
    (_, tuned), *later = seen
    epoch, score = max(later, key=lambda one: (one[1], one[0]))
    assert score > tuned and [number for number, _ in later] == [1, 2]
    assert best is not None and best["ndcg@10"] == score == experiment.trainer.best_valid_score
    assert f"went from {tuned:.4f} to {score:.4f}; the model of epoch {epoch + 1} is kept" in caplog.text
    assert "of 48 histories" in caplog.text, "how many groups could teach anything"
    experiment.evaluate("valid", load_best=True)
    assert experiment.trainer.later_stages["preferences"]["gained"]


def test_the_stage_begins_with_the_best_model_and_an_optimizer_of_its_own(folder: Path) -> None:
    experiment = made(
        folder, "begin", preference_stage="grpo", preference_learning_rate=1e-3, warmup_ratio=0.5, epochs=0
    )
    trainer, rates, references = experiment.trainer, [], []
    set_rate, in_use = trainer._set_learning_rate, WeightCopy.in_use
    trainer._set_learning_rate = lambda position, total: (
        set_rate(position, total),
        rates.append((position, total, trainer.optimizer.param_groups[0]["lr"])),
    )
    first = {name: weight.detach().clone() for name, weight in experiment.model.named_parameters()}

    def noting(self: WeightCopy) -> Any:
        if self is trainer._reference:
            references.append(self._copies)
        return in_use(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightCopy, "in_use", noting)
        experiment.fit()
    assert [rate[:2] for rate in rates] == [(step, 6) for step in range(6)], "48 histories in batches of 16, twice"
    assert rates[0][2] == pytest.approx(1e-3 / 4) and rates[3][2] == pytest.approx(1e-3)
    assert len(references) == 6 and all(copy[name].equal(first[name]) for copy in references for name in copy)
    assert trainer.later_stages["preferences"]["tuned_epoch"] == -1, "an untrained model is validated before the stage"


def test_it_learns_from_the_training_part_alone(folder: Path) -> None:
    experiment = made(folder, "split")
    loader = HistoryLoader(experiment.config, experiment.train_data._dataset, None, first_epoch=3)
    sequences = experiment.train_data._dataset.sequences()
    assert len(loader) == -(-len(sequences.targets) // 16)

    def rows(epoch: int) -> list[tuple[Any, ...]]:
        loader.set_epoch(epoch)
        return [
            (*history[:length], target)
            for batch in loader
            for history, length, target in zip(*(batch[name].tolist() for name in batch.columns), strict=True)
        ]

    all_rows = [(*sequences.context(n).history.tolist(), int(sequences.targets[n])) for n in range(loader.sample_size)]
    assert sorted(rows(3)) == sorted(rows(4)) == sorted(all_rows) and rows(3) != rows(4)
    assert rows(3) == rows(3), "a function of the epoch"


def test_without_users_to_validate_it_is_refused_before_training(folder: Path) -> None:
    experiment = made(folder, "blind", preference_stage="dpo", eval_args={"split": {"LS": "test_only"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureTrainer, "_train_epoch", lambda *args, **options: pytest.fail("it trained"))
        with pytest.raises(UserError, match="no user has an item to validate with"):
            experiment.fit()


def test_a_loss_that_is_not_a_number_names_the_stage_s_rate(folder: Path) -> None:
    experiment = made(folder, "nan", preference_stage="dpo", preference_learning_rate=1e-3)
    policy = experiment.model.log_probs
    experiment.model.log_probs = lambda *given: policy(*given) * torch.nan
    with pytest.raises(FloatingPointError, match=r"16 histories\)(.|\n)*Lower preference_learning_rate"):
        experiment.fit()
