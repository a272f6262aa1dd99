"""What loggers get, whether they are there, and that a resumed run goes on in theirs. Clients are stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fakes import write_dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_lcrec.cli.main import main
from recbole_lcrec.distributed import group
from recbole_lcrec.experiment import build, run
from recbole_lcrec.training.loggers import Loggers
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
SMALL = {"use_gpu": False, "show_progress": False, "epochs": 2, "hidden_size": 8, "inner_size": 8, "topk": [1, 5],
         "valid_metric": "NDCG@5", "lr_scheduler": "cosine"}  # fmt: skip


class Wandb(ModuleType):
    """Stands for the package wandb: notes the runs that are begun and what they get."""

    def __init__(self, key: bool) -> None:
        super().__init__("wandb")
        self.runs: list[dict[str, Any]] = []
        self.Settings = dict
        self.setup = lambda settings: None
        self.login = lambda prompt, verify: key and not prompt and not verify

    def init(self, **options: Any) -> Any:
        begun: dict[str, Any] = {**options, "rows": [], "status": None}
        self.runs.append(begun)
        return SimpleNamespace(
            url="", log=lambda values, step: begun["rows"].append((step, values)),
            finish=lambda exit_code: begun.update(status=exit_code),
        )  # fmt: skip


class Client:
    """Stands for MlflowClient."""

    made: list[dict[str, Any]] = []

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        begun = {
            "uri": self.uri,
            "experiment": experiment,
            "name": run_name,
            "metrics": [],
            "params": [],
            "status": [],
        }
        self.made.append(begun)
        return SimpleNamespace(info=SimpleNamespace(run_id=str(len(self.made) - 1)))

    def update_run(self, run_id: str, status: str) -> None:
        self.made[int(run_id)]["status"].append(status)

    set_terminated = update_run

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        self.made[int(run_id)]["metrics"] += metrics
        self.made[int(run_id)]["params"] += params


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wandb]:
    wandb, mlflow, entities = Wandb(key=False), ModuleType("mlflow"), ModuleType("mlflow.entities")
    monkeypatch.setattr(Client, "made", [])
    monkeypatch.setattr(mlflow, "MlflowClient", Client, raising=False)
    monkeypatch.setattr(entities, "Metric", lambda *parts: parts, raising=False)
    monkeypatch.setattr(entities, "Param", lambda *parts: parts, raising=False)
    for module in (wandb, mlflow, entities):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    yield wandb


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    return {**SMALL, "data_path": str(write_dataset(folder)), "output_dir": str(folder / "out"), **changes}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_all_loggers_get_every_metric_the_rate_and_the_test_under_plain_names(tmp_path: Path, clients: Wandb) -> None:
    result = run("SASRec", "toy", options(tmp_path, logger="tensorboard, wandb,mlflow"))
    found = scalars(tmp_path / "out" / "tensorboard")
    metrics = [f"{name}@{k}" for name in ("hit", "ndcg") for k in (1, 5)]
    expected = {f"{part}/{name}" for part in ("valid", "best_valid", "test") for name in metrics}
    assert found.keys() == {*expected, "train/loss", "train/learning_rate"}
    curve = result["learning_curve"]
    assert found["train/loss"] == [
        (1, pytest.approx(curve[0]["train_loss"])),
        (2, pytest.approx(curve[1]["train_loss"])),
    ]
    assert found["train/learning_rate"] == [(1, pytest.approx(0.001)), (2, pytest.approx(0.0005))]
    assert found["test/ndcg@5"] == [(2, pytest.approx(result["test_result"]["ndcg@5"]))]
    assert not [path for path in (tmp_path / "out" / "tensorboard").iterdir() if path.is_dir()], "one run"
    (begun,) = clients.runs
    assert begun["mode"] == "offline" and begun["dir"] == str(tmp_path / "out") and begun["status"] == 0
    assert begun["config"]["hidden_size"] == 8 and begun["project"] == "recbole"
    assert {(name, step) for step, row in begun["rows"] for name in row} == {
        (name, step) for name, values in found.items() for step, _ in values
    }
    (made,) = Client.made
    assert made["uri"] == (tmp_path / "out" / "mlruns").as_uri() and made["status"] == ["FINISHED"]
    assert ("hidden_size", "8") in made["params"]
    values = {(name, step): value for name, value, _, step in made["metrics"]}
    assert values[("test/ndcg_at_5", 2)] == result["test_result"]["ndcg@5"]


def test_a_resumed_run_goes_on_in_the_same_runs_and_a_new_one_does_not(tmp_path: Path, clients: Wandb) -> None:
    class Cut(Exception):
        pass

    def stop(*_: Any) -> None:
        made.trainer.save_state(tmp_path / "state")
        raise Cut

    given = options(tmp_path, logger=["wandb", "mlflow", "tensorboard"])
    (tmp_path / "out").mkdir()
    made = build("SASRec", "toy", given)
    with pytest.raises(Cut), made.trainer.chronicle.loggers:
        made.fit(stop)
    again = build("SASRec", "toy", given)
    again.trainer.resume_checkpoint(tmp_path / "state")
    with again.trainer.chronicle.loggers:
        again.fit()
    first, second = clients.runs
    assert (
        first["id"] == second["id"] and second["resume"] == "allow" and (first["status"], second["status"]) == (1, 0)
    )
    assert {step for step, _ in first["rows"]} == {1} and {step for step, _ in second["rows"]} == {2}
    assert [one["status"] for one in Client.made] == [["FAILED", "RUNNING", "FINISHED"]]
    assert [step for step, _ in scalars(tmp_path / "out" / "tensorboard")["train/loss"]] == [1, 2]
    run("SASRec", "toy", {**given, "output_dir": str(tmp_path / "other")})
    assert len(Client.made) == 2 and clients.runs[-1]["id"] != first["id"]
    assert json.loads((tmp_path / "other" / "loggers.json").read_text()).keys() == {"wandb", "mlflow"}


def test_with_a_key_wandb_is_online_and_wandb_mode_decides(
    tmp_path: Path, clients: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.login = lambda prompt, verify: True
    config = build("SASRec", "toy", options(tmp_path, logger=None, log_wandb=True)).config
    Loggers(config, tmp_path).open()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Loggers(config, tmp_path).open()
    assert [begun["mode"] for begun in clients.runs] == ["online", None]


def test_only_the_main_process_has_loggers(tmp_path: Path, clients: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build("SASRec", "toy", options(tmp_path, logger="tensorboard,wandb,mlflow")).config
    monkeypatch.setattr(group, "is_main", lambda: False)
    loggers = Loggers(config, tmp_path / "none")
    with loggers:
        loggers.open()
        loggers.log("train", {"loss": 1.0}, 1)
    assert clients.runs == Client.made == [] and not (tmp_path / "none").exists()


def test_a_server_that_refuses_a_value_does_not_end_a_training(
    tmp_path: Path, clients: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, metrics: Any = (), **__: Any) -> None:
        if metrics:
            raise ConnectionError("no route to the server")

    monkeypatch.setattr(Client, "log_batch", refuse)
    run("SASRec", "toy", options(tmp_path, logger="mlflow"))
    log = (tmp_path / "out" / "run.log").read_text()
    assert "WARNING  mlflow rejected a value: no route to the server." in log
    clients.init = lambda **_: (_ for _ in ()).throw(RuntimeError("wrong key"))  # type: ignore[method-assign]
    with pytest.raises(UserError, match="logger=wandb cannot start a run: wrong key"):
        run("SASRec", "toy", options(tmp_path, logger="wandb"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--logger=wnadb", "there is no wnadb; expected tensorboard, wandb, mlflow, several with commas between them, "
                           "or None. Did you mean 'wandb'?"),
        ("--logger=tensorboard,mlflow", 'logger names mlflow, but the package mlflow is not installed: pip install '
                                        '"recbole-lcrec[mlflow]"'),
        ("--log_wandb=True", "option logger (or log_wandb) names wandb, but the package wandb is not installed"),
    ],
)  # fmt: skip
def test_unknown_and_missing_loggers_are_told_before_anything_is_done(
    given: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_lcrec.config.loggers._is_installed", lambda package: package == "tensorboard")
    assert main(["--model=SASRec", "--dataset=ml-100k", given]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 1
