"""Wrong input ends in one clear message and exit status 2, without a traceback and without half-written output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.cli.main import main

Change = Callable[[Path], list[str]]


def wrong_rows(folder: Path) -> list[str]:
    np.save(folder / "e.npy", np.zeros((7, 4), np.float32))
    return [f"--text_encoder=file:{folder / 'e.npy'}"]


def with_nan(folder: Path) -> list[str]:
    vectors = np.ones((30, 4), np.float32)
    vectors[3, 1] = np.nan
    np.save(folder / "e.npy", vectors)
    return [f"--text_encoder=file:{folder / 'e.npy'}"]


def pickled(folder: Path) -> list[str]:
    np.save(folder / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return [f"--text_encoder=file:{folder / 'e.npy'}"]


def malformed_yaml(folder: Path) -> list[str]:
    (folder / "bad.yaml").write_text("epochs: 3\ntopk: [1, 5\nseed: 1\n")
    return [f"--config_files={folder / 'bad.yaml'}"]


def index(content: str) -> Change:
    def change(folder: Path) -> list[str]:
        (folder / "i.json").write_text(content)
        return [f"--index_file={folder / 'i.json'}"]

    return change


def no_text_field(folder: Path) -> list[str]:
    return ["--item_text_fields=[headline]"]


def no_item_file(folder: Path) -> list[str]:
    (folder / "toy" / "toy.item").unlink()
    return []


def no_inter_file(folder: Path) -> list[str]:
    (folder / "toy" / "toy.inter").unlink()
    return []


def item_called_na(folder: Path) -> list[str]:
    path = folder / "toy" / "toy.inter"
    lines = path.read_text().splitlines()
    lines[2] = "u0\tNA\t1"
    path.write_text("\n".join(lines) + "\n")
    return []


def plain(*arguments: str) -> Change:
    return lambda folder: list(arguments)


COMPLETE = {f"i{n}": [f"<a_{n}>", "<b_0>"] for n in range(30)}


def user_json(content: str) -> Change:
    def change(folder: Path) -> list[str]:
        (folder / "toy" / "toy.user.json").write_text(content)
        return []

    return change


CASES: dict[str, tuple[Change, list[str]]] = {
    "option": (plain("--num_beems=20"), ["num_beems", "num_beams"]),
    "model": (plain("--model=LCRek"), ["LCRek", "LCRec"]),
    "data set": (plain("--dataset=toi"), ["toi", "toy"]),
    "type": (plain("--epochs=many"), ["epochs", "many", "whole number"]),
    "yaml": (malformed_yaml, ["bad.yaml", "line"]),
    "config file": (plain("--config_files=none.yaml"), ["none.yaml"]),
    "inter file": (no_inter_file, ["toy.inter"]),
    "item file": (no_item_file, ["toy.item", "index_file"]),
    "text field": (no_text_field, ["headline", "description, title", "item_text_fields"]),
    "beams": (plain("--num_beams=5"), ["num_beams is 5", "10"]),
    "base model": (plain("--base_model=no/where"), ["base_model=no/where"]),
    "encoder": (plain("--text_encoder=word2vec"), ["word2vec", "lsa"]),
    "npy shape": (wrong_rows, ["e.npy", "30", "7"]),
    "npy nan": (with_nan, ["e.npy", "NaN"]),
    "npy pickle": (pickled, ["e.npy"]),
    "npy missing": (plain("--text_encoder=file:none.npy"), ["none.npy"]),
    "index json": (index("{"), ["i.json", "JSON"]),
    "index token": (index(json.dumps({**COMPLETE, "i3": ["<a_1>", "<c_2>"]})), ["i.json", "i3", "<c_2>"]),
    "index incomplete": (index(json.dumps({k: COMPLETE[k] for k in list(COMPLETE)[:20]})), ["10", "i.json"]),
    "index collisions": (index(json.dumps({**COMPLETE, "i3": COMPLETE["i4"]})), ["index_collisions"]),
    "capacity": (plain("--num_levels=2", "--codebook_size=3"), ["codebook_size", "30"]),
    "task": (plain("--tasks=[seqrec, item2indx]"), ["item2indx", "item2index"]),
    "sample count": (plain("--task_samples={seqrec: many}"), ["task_samples"]),
    "task weight": (plain("--task_weights={seqrec: -1}"), ["task_weights", "-1"]),
    "user text": (plain("--user_text=gpt"), ["user_text=gpt", "extractive", "hf:"]),
    "user text file": (plain("--user_text=file"), ["toy.user.json", "does not exist"]),
    "user text json": (user_json('{"user_explicit_preference": {"u1": 7}}'), ["toy.user.json", "u1"]),
    "user text model": (plain("--user_text=hf:no/where"), ["user_text=hf:no/where"]),
    "seed": (plain("--seed=-1"), ["seed is -1"]),
    "batch": (plain("--train_batch_size=0"), ["train_batch_size is 0"]),
    "order": (plain("--eval_args={order: RO}"), ["order is RO", "TO"]),
    "metric": (plain("--valid_metric=NDCG@7"), ["NDCG@7", "ndcg@10"]),
    "length": (plain("--max_length=64"), ["max_length=64 is too small"]),
    "clipping": (plain("--clip_grad_norm={max_nrm: 1.0}"), ["clip_grad_norm", "'max_nrm'", "max_norm"]),
    "item token": (item_called_na, ["toy.inter, line 3", "item_id", "NA"]),
}


def arguments(folder: Path, case: str) -> list[str]:
    """Write a small data set with the mistake of a case and return the command line that meets it."""
    write_dataset(folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    given = {
        "--model": "LCRec",
        "--dataset": "toy",
        "--data_path": str(folder),
        "--config_files": str(folder / "tiny.yaml"),
        "--output_dir": str(folder / "out"),
        "--cache_dir": str(folder / "cache"),
    }
    given |= dict(argument.split("=", 1) for argument in CASES[case][0](folder))
    return [f"{name}={value}" for name, value in given.items()]


@pytest.mark.parametrize("case", ["type", "length", "index json", "base model"])
def test_wrong_input_leaves_an_earlier_run_alone(case: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "checkpoint").mkdir(parents=True)
    for name in ("run.log", "config.yaml", "checkpoint/model.safetensors"):
        (out / name).write_text("earlier")
    written = ["checkpoint", "config.yaml", "run.log"]
    (out / "manifest.json").write_text(json.dumps({"recbole_lcrec": "1", "files": {}, "written": written}))
    assert main(arguments(tmp_path, case)) == 2
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["checkpoint/model.safetensors", "config.yaml", "manifest.json", "run.log"]
    assert (out / "run.log").read_text() == "earlier"


@pytest.mark.parametrize("case", list(CASES))
def test_wrong_input(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(arguments(tmp_path, case))
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.startswith("error: ") and "Traceback" not in error
    for words in CASES[case][1]:
        assert words.lower() in error.lower(), error
    assert not (tmp_path / "out").exists()
    assert not (case.startswith("user text") and (tmp_path / "cache").exists()), "told after the index was built"
