"""LIGER: LCRec's options under a name of their own."""

from __future__ import annotations

from pathlib import Path

from fakes import TINY, write_dataset
from single_thread import one_thread  # noqa: F401

from recbole_lcrec.config import LCRecConfig, properties_dir
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.experiment import evaluate, load_experiment, run


def test_it_is_lcrec_under_its_own_options(tmp_path: Path) -> None:
    data = {"data_path": str(write_dataset(tmp_path))}
    ours, base = (LCRecConfig(name, "toy", config_dict=data).internal_config_dict for name in ("LIGER", "LCRec"))
    own = load_values(properties_dir() / "model" / "LIGER.yaml")
    assert ours == {**base, **own}
    assert [ours[name] for name in ("history_input", "item_score_weight", "index_mapping")] == ["item", 0.5, "digit"]


def test_a_run_is_saved_whole_and_takes_new_items(tmp_path: Path) -> None:
    own = {"task_samples": 48, "item_score_weight": 0.5, "num_levels": 2}
    given = {**TINY, **own, "data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    result = run("LIGER", "toy", {**given, "output_dir": str(tmp_path / "out")})
    assert result["model"] == "LIGER" and result["item_score_weight"] == 0.5
    assert result["index"]["level_sizes"] == [8, 8, 8], "two levels and the digit"
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    loaded = load_experiment(tmp_path / "out")
    loaded.add_items({"new": "gadget 0 number 3"})
    assert loaded.recommend([["i2"]], 2, among=["new", "i1"])[0][0] != []
