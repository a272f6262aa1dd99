"""RecBole's feature models find a categorical column in whatever data they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import write_dataset

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.experiment import run
from recbole_lcrec.utils.errors import UserError


def data(tmp_path: Path, extra: str = "brand") -> dict[str, Any]:
    write_dataset(tmp_path)
    path = tmp_path / "toy" / "toy.item"
    lines = path.read_text().splitlines()
    lines = [f"{line}\t{f'{extra}:token' if i == 0 else f'b{i % 3}'}" for i, line in enumerate(lines)]
    path.write_text("\n".join(lines) + "\n")
    return {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, "epochs": 1}


def test_the_first_categorical_column_is_taken_and_loaded(tmp_path: Path) -> None:
    given = data(tmp_path)
    config = LCRecConfig("FDSA", "toy", config_dict=given)
    assert config["selected_features"] == ["brand"] and config["load_col"]["item"] == ["item_id", "brand"]
    assert LCRecConfig("S3Rec", "toy", config_dict=given)["item_attribute"] == "brand"
    again = LCRecConfig(config_dict=config.resolved())
    assert again.resolved() == config.resolved()
    assert "item" not in LCRecConfig("SASRec", "toy", config_dict=given)["load_col"]
    result = run("FDSA", "toy", {**given, "output_dir": str(tmp_path / "out")})
    assert result["test_result"]["hit@10"] >= 0


def test_ml_100k_keeps_recboles_choice() -> None:
    config = LCRecConfig("FDSA", "ml-100k")
    assert config["selected_features"] == ["class"] and "class" in config["load_col"]["item"]


def test_what_the_user_names_is_loaded_or_refused(tmp_path: Path) -> None:
    given = data(tmp_path)
    config = LCRecConfig("FDSA", "toy", config_dict={**given, "selected_features": ["title"]})
    assert config["load_col"]["item"] == ["item_id", "title"]
    with pytest.raises(UserError, match="no column colour in"):
        LCRecConfig("FDSA", "toy", config_dict={**given, "selected_features": ["colour"]})
    inter_only = {"inter": ["user_id", "item_id", "timestamp"]}
    with pytest.raises(UserError, match="load_col does not load column brand"):
        LCRecConfig("FDSA", "toy", config_dict={**given, "load_col": inter_only})
    data(tmp_path, extra="price")
    with pytest.raises(UserError, match="it has: item_id, title, description, price"):
        LCRecConfig("FDSA", "toy", config_dict=given)
