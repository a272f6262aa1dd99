"""Splits that are ready: every model on the same rows, recent histories, filters refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.experiment import build, evaluate, run
from recbole_lcrec.utils.errors import UserError


def write_split(folder: Path, *, histories: bool = True) -> None:
    """Write the toy data set as three files: per user all training samples, one of validation, one of the test."""
    write_dataset(folder)
    path = folder / "toy" / "toy.inter"
    users: dict[str, list[str]] = {}
    for line in path.read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        users.setdefault(user, []).append(item)
    path.unlink()
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user, items in users.items():
        for end in range(1, len(items)):
            part = {len(items) - 1: "test", len(items) - 2: "valid"}.get(end, "train")
            history = f"\t{' '.join(items[:end])}" if histories else ""
            parts[part].append(f"{user}\t{items[end]}{history}")
    head = "user_id:token\titem_id:token" + ("\titem_id_list:token_seq" if histories else "")
    for part, lines in parts.items():
        (folder / "toy" / f"toy.{part}.inter").write_text("\n".join([head, *lines]) + "\n")


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {**TINY, "data_path": str(folder), "cache_dir": str(folder / "cache"), "epochs": 1}
    ready = {"benchmark_filename": ["train", "valid", "test"], "user_inter_num_interval": None}
    return {**given, **ready, "item_inter_num_interval": None, "output_dir": str(folder / "out"), **changes}


@pytest.mark.parametrize("length", [20, 3])
def test_every_model_runs_on_the_split_that_leave_one_out_would_make(tmp_path: Path, length: int) -> None:
    write_dataset(tmp_path / "whole")
    whole = {**TINY, "data_path": str(tmp_path / "whole"), "output_dir": str(tmp_path / "w"), "epochs": 1}
    reference = build("SASRec", "toy", {**whole, "MAX_ITEM_LIST_LENGTH": length}).split_sha256
    write_split(tmp_path)
    for model in ("Pop", "BPR", "SASRec", "LCRec"):
        result = run(model, "toy", options(tmp_path, MAX_ITEM_LIST_LENGTH=length))
        assert result["split_sha256"] == reference, model
        assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_histories_keep_their_most_recent_items(tmp_path: Path) -> None:
    write_split(tmp_path)
    made = build("SASRec", "toy", options(tmp_path, MAX_ITEM_LIST_LENGTH=2))
    line = (tmp_path / "toy" / "toy.test.inter").read_text().splitlines()[1].split("\t")
    row = made.test_data._dataset.inter_feat[0]
    tokens = made.dataset.field2id_token["item_id"]
    assert [tokens[i] for i in row["item_id_list"].ravel().tolist()] == line[2].split(" ")[-2:]


def test_general_models_learn_the_first_items_too(tmp_path: Path) -> None:
    write_split(tmp_path)
    made = build("BPR", "toy", options(tmp_path))
    feat = made.train_data._dataset.inter_feat
    pairs = set(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))
    lines = [line.split("\t") for line in (tmp_path / "toy" / "toy.train.inter").read_text().splitlines()[1:]]
    users, items = made.dataset.field2token_id["user_id"], made.dataset.field2token_id["item_id"]
    expected = {(users[u], items[i]) for u, target, history in lines for i in [target, *history.split(" ")]}
    assert pairs == expected and len(np.unique(feat["user_id"])) == len({line[0] for line in lines})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval cannot apply"),
        ({"val_interval": {"timestamp": "[0,9]"}}, "val_interval cannot apply"),
        ({"rm_dup_inter": "first"}, "rm_dup_inter cannot apply"),
        ({"benchmark_filename": ["train", "test"]}, "expected three names"),
    ],
)
def test_what_cannot_apply_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_split(tmp_path)
    with pytest.raises(UserError, match=message):
        build("Pop", "toy", options(tmp_path, **changes))


def test_files_without_histories(tmp_path: Path) -> None:
    write_split(tmp_path, histories=False)
    with pytest.raises(UserError, match="no column item_id_list:token_seq"):
        build("SASRec", "toy", options(tmp_path))
