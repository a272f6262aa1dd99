"""Whole runs: LCRec and RecBole's models from options to result.json, loaded and evaluated again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.experiment import evaluate, load_experiment, run
from recbole_lcrec.utils.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "datasets"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")


def options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    data = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    return {**TINY, **data, "output_dir": str(tmp_path / "out"), **changes}


def test_lcrec_writes_everything_and_evaluates_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = options(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    result = run("LCRec", "toy", given)
    assert {path.name for path in tmp_path.iterdir()} - before == {"out", "cache"}, "nothing is written elsewhere"
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    expected = {
        "config.yaml",
        "result.json",
        "report.html",
        "run.log",
        "checkpoint",
        "index.json",
        "tokenizer",
        "lm",
        "user_texts.json",
    }
    assert expected <= names
    written = json.loads((out / "result.json").read_text())
    assert written == {key: value for key, value in result.items() if key != "output_dir"}
    assert written["tasks"] == TINY["task_samples"] and set(written["seconds"]) >= {
        "embedding",
        "index",
        "train",
        "test",
    }
    log = (out / "run.log").read_text()
    assert "epoch 1 of 2, about" in log and "epoch 2 of 2: validation hit@1 " in log and "\x1b" not in log
    assert "toy: 40 users, 30 items" in log and "Embedding(" not in log
    for lines in (log, [line for line in log.splitlines() if line.startswith("ndcg@10")]):
        assert "OrderedDict" not in lines and "best valid :" not in lines, "metrics are printed once"
    assert log.rstrip().splitlines()[-1].startswith("ndcg@10")
    again = evaluate(out)
    assert again["test_result"] == result["test_result"]
    assert again["best_valid_result"] == result["best_valid_result"]
    loaded = load_experiment(out)
    assert loaded.recommend([["i1", "i2"]], 3) == load_experiment(out).recommend([["i1", "i2"]], 3)


@pytest.mark.parametrize("model", ["Pop", "BPR", "SASRec", "GRU4Rec", "LightGCN", "BERT4Rec"])
def test_recboles_models_run_on_the_same_split(tmp_path: Path, model: str) -> None:
    given = {k: v for k, v in options(tmp_path).items() if k != "train_batch_size"}
    result = run(model, "toy", given)
    reference = run("LCRec", "toy", {**given, "output_dir": str(tmp_path / "lcrec"), "epochs": 1})
    assert result["split_sha256"] == reference["split_sha256"]
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_the_same_command_gives_the_same_index_and_metrics(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    outcomes = []
    for seed in ("1", "2"):
        config = tmp_path / f"{seed}.yaml"
        config.write_text(yaml.safe_dump(options(tmp_path, output_dir=str(tmp_path / seed))))
        command = [sys.executable, "-m", "recbole_lcrec", "--model=LCRec", "--dataset=toy", f"--config_files={config}"]
        command.append(f"--cache_dir={tmp_path / ('cache' + seed)}")
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        assert "anomaly" not in done.stdout + done.stderr, "autograd's checks are on, which cost a fifth of the time"
        result = json.loads((tmp_path / seed / "result.json").read_text())
        outcomes.append(
            ((tmp_path / seed / "index.json").read_text(), result["test_result"], result["best_valid_result"])
        )
    assert outcomes[0] == outcomes[1]


def test_a_new_run_replaces_what_an_earlier_one_left(tmp_path: Path) -> None:
    given = options(tmp_path)
    run("LCRec", "toy", given)
    evaluate(tmp_path / "out")
    run("Pop", "toy", given)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    expected = {"config.yaml", "result.json", "run.log", "checkpoint", "tensorboard", "ranks.csv.gz", "report.html"}
    assert names == {*expected, "manifest.json"}
    assert "LCRec" not in (tmp_path / "out" / "run.log").read_text()


def test_interactions_split_together_give_each_user_a_sequence(tmp_path: Path) -> None:
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"}
    given = options(tmp_path, eval_args=split, history_loss_weight=0.0, history_windows=False)
    result = run("LCRec", "toy", given)
    reference = run("SASRec", "toy", {**given, "output_dir": str(tmp_path / "sasrec")})
    assert result["split_sha256"] == reference["split_sha256"]


def test_a_user_error_leaves_nothing_behind(tmp_path: Path) -> None:
    given = options(tmp_path, text_encoder=f"file:{tmp_path / 'none.npy'}")
    with pytest.raises(UserError, match=r"none\.npy"):
        run("LCRec", "toy", given)
    assert not (tmp_path / "out").exists()


def test_without_item_text_a_ready_index_is_enough(tmp_path: Path) -> None:
    given = options(tmp_path)
    (tmp_path / "toy" / "toy.item").unlink()
    with pytest.raises(UserError, match="no item text to build an index from"):
        run("LCRec", "toy", given)
    index = {f"i{n}": [f"<a_{n // 5}>", "<b_1>", f"<c_{n % 4}>"] for n in range(30)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    given["index_file"] = str(tmp_path / "index.json")
    with pytest.raises(UserError, match="index_collisions=resolve"):
        run("LCRec", "toy", given)
    result = run("LCRec", "toy", {**given, "index_collisions": "resolve"})
    assert list(result["tasks"]) == ["seqrec"]


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    run("SASRec", "toy", options(tmp_path))
    write_dataset(tmp_path, seed=7)
    with pytest.raises(UserError, match="not the one that the run was trained on"):
        evaluate(tmp_path / "out")
    with pytest.raises(UserError, match="not the folder of a finished run"):
        evaluate(tmp_path)


def test_valid_users_sample_and_users_without_validation(tmp_path: Path) -> None:
    result = run("SASRec", "toy", options(tmp_path, valid_users=7))
    assert result["valid_users"] == 7 and result["test_result"] is not None
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"u{u}\ti{(u + t) % 5}\t{t}" for u in range(9) for t in range(3)]
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    result = run("Pop", "toy", options_without_rewrite(tmp_path))
    assert result["best_valid_result"] is None and 0 <= result["test_result"]["hit@10"] <= 1


def options_without_rewrite(tmp_path: Path) -> dict[str, Any]:
    data = {"data_path": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    return {**TINY, **data, "output_dir": str(tmp_path / "out")}


@needs_shared
def test_scientific_with_a_slice_of_training(tmp_path: Path) -> None:
    given = {**TINY, "data_path": str(SHARED), "cache_dir": str(tmp_path / "c"), "output_dir": str(tmp_path / "out")}
    embeddings = f"file:{SHARED / 'Scientific' / 'Scientific.minilm.npy'}"
    changes = {"text_encoder": embeddings, "epochs": 1, "codebook_size": 32, "num_levels": 4, "valid_users": 50}
    result = run("LCRec", "Scientific", {**given, **changes})
    assert result["tasks"] == TINY["task_samples"]
    assert result["parameters"]["trainable"] == result["parameters"]["total"]


@needs_shared
@pytest.mark.slow
def test_games_with_a_published_index_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "Games").mkdir()  # without Games.item
    (tmp_path / "Games" / "Games.inter").symlink_to(SHARED / "Games" / "Games.inter")
    given = {**TINY, "data_path": str(tmp_path), "cache_dir": str(tmp_path / "c"), "output_dir": str(tmp_path / "out")}
    index = {"index_file": str(SHARED / "Games" / "Games.index.json"), "index_collisions": "resolve"}
    result = run("LCRec", "Games", {**given, **index, "num_levels": 4, "codebook_size": 256, "epochs": 1})
    assert list(result["tasks"]) == ["seqrec"]


@pytest.mark.slow
def test_the_defaults_learn_on_a_small_structured_catalogue(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, users=500, items=300)
    given = {"data_path": str(data), "cache_dir": str(tmp_path / "c"), "output_dir": str(tmp_path / "out")}
    result = run("LCRec", "toy", {**given, "show_progress": False, "use_gpu": False})
    assert result["test_result"]["hit@10"] >= 5 * 10 / 300
