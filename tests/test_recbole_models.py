"""RecBole's models that differ from the common course: pre-training, values in place of rankings, graphs."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fakes import TINY, write_dataset
from killing import after, in_child, kill
from recbole_models import BROKEN, NEEDS, Row, kind_of, read_table, table, write_everything
from recbole_models import options as options_on_everything

from recbole_lcrec.cli.main import main
from recbole_lcrec.config.names import recbole_models
from recbole_lcrec.experiment import evaluate, run
from recbole_lcrec.training.course import Course
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache")}
    return {**TINY, **data, "output_dir": str(folder / "out"), "epochs": 1, **changes}


def write_graph(folder: Path) -> None:
    """Write a knowledge graph in which every item has a colour, as RecBole's .kg and .link files."""
    lines = ["head_id:token\trelation_id:token\ttail_id:token"]
    lines += [f"e{n}\thas_colour\tcolour{n % 5}" for n in range(30)]
    (folder / "toy" / "toy.kg").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tentity_id:token"] + [f"i{n}\te{n}" for n in range(30)]
    (folder / "toy" / "toy.link").write_text("\n".join(lines) + "\n")


def test_s3rec_is_pretrained_then_tuned(tmp_path: Path) -> None:
    given = options(
        tmp_path, pretrain_epochs=2, save_step=1, item_attribute="title",
        load_col={"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]},
    )  # fmt: skip
    first = run("S3Rec", "toy", given)
    weights = tmp_path / "out" / "S3Rec-toy-2.pth"
    assert first["best_valid_result"] is None and torch.load(weights, weights_only=True)["epoch"] == 1
    tuned = {**given, "train_stage": "finetune", "pre_model_path": str(weights), "output_dir": str(tmp_path / "tuned")}
    result = run("S3Rec", "toy", tuned)
    assert evaluate(tmp_path / "tuned")["test_result"] == result["test_result"]
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be loaded"):
        run("S3Rec", "toy", {**tuned, "output_dir": str(tmp_path / "again")})
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("model", ["CFKG", "LightGCN", "RecVAE"])
def test_graph_and_two_optimizer_models(tmp_path: Path, model: str) -> None:
    given = options(tmp_path, lr_scheduler="cosine")
    write_graph(tmp_path)
    result = run(model, "toy", given)
    assert result["best_valid_result"] and evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_a_model_with_value_metrics(tmp_path: Path) -> None:
    lines = ["user_id:token\titem_id:token\ttimestamp:float\tlabel:float"]
    lines += [f"u{u}\ti{(u * 7 + t) % 30}\t{t}\t{(u + t) % 2}" for u in range(40) for t in range(8)]
    given = options(
        tmp_path, metrics=["AUC", "LogLoss"], valid_metric="AUC", LABEL_FIELD="label",
        eval_args={"mode": "labeled"}, load_col={"inter": ["user_id", "item_id", "timestamp", "label"]},
    )  # fmt: skip
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    result = run("DIN", "toy", given)
    assert 0 <= result["test_result"]["auc"] <= 1
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_a_package_that_a_model_needs_is_named(tmp_path: Path) -> None:
    given = options(tmp_path)
    write_graph(tmp_path)
    with pytest.raises(UserError, match="'dgl', which is not installed"):
        run("KGAT", "toy", given)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("faiss") is not None, reason="faiss is installed")
def test_a_package_that_a_model_asks_for_in_training_is_named_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="'faiss', which is not installed"):
        run("NCL", "toy", options(tmp_path, m_step=1, lr_scheduler="cosine"))
    assert "NCLTrainer has a loop of its own and ignores lr_scheduler" in caplog.text


@pytest.mark.parametrize("model", ["BPR", "LCRec"])
def test_sampled_candidates_are_the_same_when_evaluated_again(tmp_path: Path, model: str) -> None:
    result = run(model, "toy", options(tmp_path, eval_args={"mode": "uni20"}, topk=[5], valid_metric="NDCG@5"))
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_result"]["hit@5"] > 0


# ---- every model of RecBole, and the table of them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    write_everything(folder)
    return folder


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, Row]]:
    """Collect what came of each model; at the end write the table to where $WRITE_TABLE says, if it says so."""
    found: dict[str, Row] = {}
    yield found
    if target := os.environ.get("WRITE_TABLE"):
        Path(target).write_text(table(found, recbole_models()))


@pytest.mark.slow
@pytest.mark.parametrize("model", recbole_models())
def test_each_model_trains_is_evaluated_again_and_resumes(
    model: str, everything: Path, rows: dict[str, Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options_on_everything(model, everything)
    package = NEEDS.get(model)
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(UserError, match=f"'{package}', which is not installed"):
            run(model, "all", {**given, "output_dir": str(everything / model)})
        rows[model] = Row(model, kind_of(model), f"needs {package}", "")
        return
    if model in BROKEN:
        with pytest.raises(UserError, match=BROKEN[model]):
            run(model, "all", {**given, "output_dir": str(everything / model)})
        rows[model] = Row(model, kind_of(model), "fails in RecBole", "")
        return
    steps = 0
    count = Course.add

    def counted(course: Course, *parts: Any) -> None:
        nonlocal steps
        steps += 1
        count(course, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "add", counted)
        whole = run(model, "all", {**given, "output_dir": str(everything / model)})
    assert evaluate(everything / model)["test_result"] == whole["test_result"]
    resumes = _resumed(model, everything, given, steps)
    rows[model] = Row(model, kind_of(model), "yes", resumes)


def _resumed(model: str, folder: Path, given: dict[str, Any], steps: int) -> str:
    """Kill a second run in its training, resume it, hold it against the first; return how it went on."""
    out, log = folder / f"{model}-cut", folder / f"{model}.log"
    options = folder / f"{model}.yaml"
    options.write_text(yaml.safe_dump({**given, "checkpoint_every_n_steps": 2}))
    at = max(1, math.ceil(steps * 0.7))

    def killed() -> int:
        if steps:
            after(at, Course, "add", kill)
        else:
            from recbole_lcrec.training.trainer import FeatureTrainer

            after(1, FeatureTrainer, "evaluate", kill)
        return main([f"--model={model}", "--dataset=all", f"--config_files={options}", f"--output_dir={out}"])

    assert in_child(killed, log) == -signal.SIGKILL, log.read_text()[-3000:]
    assert main([f"--resume={out}"]) == 0
    found, expected = (json.loads((path / "result.json").read_text()) for path in (out, folder / model))
    for name in ("best_valid_result", "test_result", "split_sha256"):
        assert found[name] == expected[name], name
    weights = [path / "checkpoint" / "model.safetensors" for path in (out, folder / model)]
    assert weights[0].exists() == weights[1].exists()
    if weights[0].exists():
        assert weights[0].read_bytes() == weights[1].read_bytes(), "the weights are not the same"
    return "yes" if "Training state of epoch" in (out / "run.log").read_text() else "from the beginning"


def test_the_table_in_the_docs_is_of_these_models_and_has_no_failure() -> None:
    written = read_table()
    assert [row.model for row in written] == recbole_models()
    assert {row.kind for row in written} <= {kind_of(model) for model in recbole_models()}
    for row in written:
        expected = "fails in RecBole" if row.model in BROKEN else f"needs {NEEDS.get(row.model)}"
        assert row.trains in ("yes", expected), row
        assert row.resumes in (("yes", "from the beginning") if row.trains == "yes" else ("",)), row
