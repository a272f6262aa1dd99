"""What a copy of pbt takes over; without Ray's processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import write_dataset

from recbole_lcrec import build
from recbole_lcrec.training.randomness import random_states
from recbole_lcrec.tuning.data import SharedData
from recbole_lcrec.tuning.storage import Storage, TrialFolder
from recbole_lcrec.tuning.trial import STATE, Reporter, TrialInputs, explain, go_on_from
from recbole_lcrec.utils.errors import UserError

pytest.importorskip("ray")
pytest_plugins = ["single_thread"]


def experiment(folder: Path, name: str, **changes: Any) -> Any:
    if not (folder / "data").exists():
        write_dataset(folder / "data")
    options = {"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2, "use_gpu": False, "epochs": 4,
               "show_progress": False, "learning_rate": 0.01, "train_batch_size": 32, "stopping_step": 99}  # fmt: skip
    places = {"data_path": str(folder / "data"), "output_dir": str(folder / "out" / "trials" / name)}
    return build("SASRec", "toy", {**options, **places, **changes})


def weights(one: Any) -> dict[str, Any]:
    return {name: weight.clone() for name, weight in one.model.state_dict().items()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(left[name].equal(right[name]) for name in left)


class Reports:
    """Takes what trials report, and keeps their checkpoints as Ray does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results, self.checkpoints = folder, [], []

    def __call__(self, result: dict[str, Any], checkpoint: Any = None) -> None:
        from ray.tune import Checkpoint

        self.results.append(result)
        kept = self.folder / f"checkpoint-{len(self.checkpoints)}"
        shutil.copytree(checkpoint.path, kept)
        self.checkpoints.append(Checkpoint.from_directory(str(kept)))

    def scores(self, start: int = 0) -> list[tuple[int, float]]:
        return [(result["epoch"], result["score"]) for result in self.results[start:]]


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reports:
    import ray
    from ray import tune

    found = Reports(tmp_path)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "abcdef0"))
    monkeypatch.setattr(tune, "report", found)
    return found


def reporter_of(folder: Path, name: str, one: Any) -> Reporter:
    storage = Storage.of_search(folder / "out", None)
    inputs = TrialInputs(
        model="SASRec", dataset="toy", given={}, storage=storage, data=SharedData(None, {}, "", frozenset(), ()),
        metric="ndcg@10", bigger=True, threads=1, gpus=0, population_every=1,
    )  # fmt: skip
    return Reporter(TrialFolder(storage, name, folder / "out"), {"learning_rate": 1.0}, inputs, one.trainer, 0.0)


def test_a_copy_trains_on_as_its_donor_would_have(tmp_path: Path, reports: Reports) -> None:
    """Weights, optimizer, place in the schedule and random state: with the donor's values the rest is the donor's."""
    donor = experiment(tmp_path, "t0001")
    reporter, states = reporter_of(tmp_path, "t0001", donor), {}

    def validated(epoch: int, score: float, metrics: dict[str, float]) -> None:
        reporter.validated(epoch + 1, metrics)
        states[epoch + 1] = weights(donor)

    donor.fit(validated)
    assert not list((tmp_path / "out" / "trials" / "t0001").glob(".state-*"))
    of_donor, second = reports.scores(), reports.checkpoints[1]
    copy = experiment(tmp_path, "t0002")
    later = reporter_of(tmp_path, "t0002", copy)
    later.take_over(second)
    assert same(weights(copy), states[2])
    copy.fit(lambda epoch, score, metrics: later.validated(epoch + 1, metrics))
    assert reports.scores(len(of_donor)) == of_donor[2:]
    assert same(weights(copy), states[4])
    copied = reports.results[len(of_donor) :]
    assert {result["copied"] for result in copied} == {"t0001"}
    assert copied[0]["seconds"] > reports.results[1]["seconds"]


def test_a_copy_keeps_its_own_values_and_takes_over_all_else(tmp_path: Path, reports: Reports) -> None:
    donor = experiment(tmp_path, "t0001", epochs=1)
    reporter = reporter_of(tmp_path, "t0001", donor)
    donor.fit(lambda epoch, score, metrics: reporter.validated(epoch + 1, metrics))
    expected = random_states(donor.train_data)
    copy = experiment(tmp_path, "t0002", learning_rate=0.5, weight_decay=0.1)
    go_on_from(Path(reports.checkpoints[0].path) / STATE, copy.trainer)
    (group,) = copy.trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.1)
    states = [[one.trainer.optimizer.state[p] for p in one.model.parameters()] for one in (donor, copy)]
    assert [state.keys() for state in states[0]] == [state.keys() for state in states[1]]
    moments = [[state["exp_avg"] for state in each if state] for each in states]  # a key's bias has no gradient
    assert len(moments[0]) > 15 and all(left.equal(right) for left, right in zip(*moments, strict=True))
    copy.trainer.course.begin(1, copy.train_data)  # where the generators are set
    assert repr(random_states(copy.train_data)) == repr(expected)


def test_a_copy_that_gets_worse_keeps_its_own_best(tmp_path: Path, reports: Reports) -> None:
    one = experiment(tmp_path, "t0001", epochs=1)
    reporter = reporter_of(tmp_path, "t0001", one)
    one.fit(lambda epoch, score, metrics: reporter.validated(epoch + 1, metrics))
    best = reports.results[0]["score"]
    again = experiment(tmp_path, "t0001")
    later = reporter_of(tmp_path, "t0001", again)
    later.take_over(reports.checkpoints[0])
    assert later.best == {"score": best, "epoch": 1} and again.trainer.best_valid_score == best
    later.validated(2, {"ndcg@10": best / 2})
    assert reports.results[-1]["best_score"] == best and reports.results[-1]["copied"] is None
    with pytest.raises(FloatingPointError, match="ndcg@10 is nan after epoch 3"):
        later.validated(3, {"ndcg@10": float("nan")})


def test_errors_are_told_in_one_line() -> None:
    assert explain(UserError("one.\ntwo")) == "one."
    assert explain(FloatingPointError("loss is nan")) == "loss is nan"
    assert explain(KeyError()) == "KeyError: KeyError"

    class UserErrorOfSomebodyElse(Exception):
        """Has a name like ours."""

    UserErrorOfSomebodyElse.__name__ = "UserError"
    assert explain(UserErrorOfSomebodyElse("x")) == "UserError: x"
