import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recbole.utils import InputType, ModelType

from recbole_lcrec.config import LCRecConfig, configuration
from recbole_lcrec.config.paths import bundled_ml_100k
from recbole_lcrec.utils.errors import UserError


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "toys"
    folder.mkdir(parents=True)
    (folder / "toys.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t1\t1\n")
    return folder.parent


def toys(data_path: Path, model: str = "SASRec", **options: Any) -> LCRecConfig:
    return LCRecConfig(model, "toys", config_dict={"data_path": str(data_path), **options})


def refused(data_path: Path, model: str = "SASRec", **options: Any) -> str:
    with pytest.raises(UserError) as error:
        toys(data_path, model, **options)
    return str(error.value)


@pytest.mark.parametrize("model", ["SASRec", "Pop", "BPR", "CFKG", "GRU4Rec"])
def test_one_protocol_for_all_models(data_path: Path, model: str) -> None:
    config = toys(data_path, model)
    full = {"valid": "full", "test": "full"}
    assert config["eval_args"] == {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": full}
    assert (config["metrics"], config["topk"], config["valid_metric"]) == (["Hit", "NDCG"], [1, 5, 10], "NDCG@10")
    assert config["MAX_ITEM_LIST_LENGTH"] == 20
    assert config["repeatable"] is True
    assert "timestamp" in config["load_col"]["inter"]
    assert config["user_inter_num_interval"] == "[0,inf)"


def test_options_of_other_models_are_named(data_path: Path) -> None:
    given = {"item_score_weight": 0.5, "t5_layers": 1, "index_file": "there.json", "MAX_ITEM_LIST_LENGTH": 5}
    assert toys(data_path, "TIGER", **given).without_use() == ["item_score_weight"]
    assert toys(data_path, "SASRec", **given).without_use() == ["index_file", "item_score_weight", "t5_layers"]
    assert toys(data_path, "LCRec", **given).without_use() == ["t5_layers"]
    assert toys(data_path, "SASRec", n_layers=1).without_use() == []


def test_precedence_is_files_then_dict_then_command_line(data_path: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("epochs: 1\nseed: 1\nhidden_size: 10\nn_layers: 1\nMAX_ITEM_LIST_LENGTH: 1\n")
    second.write_text("seed: 2\nhidden_size: 20\nn_layers: 2\nmodel: SASRec\ndataset: toys\n")
    in_dict = {"hidden_size": 30, "n_layers": 3, "data_path": str(data_path)}
    config = LCRecConfig(config_files=[first, second], config_dict=in_dict, cli={"n_layers": 4})
    names = ("MAX_ITEM_LIST_LENGTH", "epochs", "seed", "hidden_size", "n_layers")
    assert [config[name] for name in names] == [1, 1, 2, 30, 4]
    assert (config["model"], config.model, config["dataset"]) == ("SASRec", "SASRec", "toys")
    assert config["n_heads"] == 2  # RecBole's own


def test_data_set_options_are_above_overall_ones(data_path: Path) -> None:
    os.rename(data_path / "toys", data_path / "Games")
    os.rename(data_path / "Games" / "toys.inter", data_path / "Games" / "Games.inter")
    config = LCRecConfig("SASRec", "Games", config_dict={"data_path": str(data_path)})
    assert config["user_inter_num_interval"] == "[5,inf)"
    assert config["item_text_fields"][0] == "title"
    assert config["data_path"] == str(data_path / "Games")


def test_value_metric_models_keep_recboles_settings() -> None:
    config = LCRecConfig("FM", "ml-100k")
    assert (config["metrics"], config["valid_metric"]) == (["AUC", "LogLoss"], "AUC")
    assert config["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}
    assert config["load_col"]["item"] == ["item_id", "release_year", "class"]
    assert LCRecConfig("DIN", "ml-100k")["valid_metric"] == "AUC"


def test_columns_of_recboles_special_models_survive() -> None:
    assert LCRecConfig("FDSA", "ml-100k")["load_col"]["item"] == ["item_id", "release_year", "class"]
    assert set(LCRecConfig("KGAT", "ml-100k")["load_col"]) == {"inter", "kg", "link"}


def test_renamed_columns_are_loaded_and_a_given_load_col_is_kept(data_path: Path) -> None:
    config = toys(data_path, USER_ID_FIELD="uid", TIME_FIELD="when")
    assert config["load_col"] == {"inter": ["uid", "item_id", "when"]}
    assert toys(data_path, load_col={"inter": ["user_id", "item_id"]})["load_col"] == {"inter": ["user_id", "item_id"]}
    assert toys(data_path, load_col=None)["load_col"] is None


def test_cross_entropy_models_need_no_negatives(data_path: Path) -> None:
    none, uniform = "none", "uniform"
    assert toys(data_path)["train_neg_sample_args"]["distribution"] == none
    assert toys(data_path, loss_type="BPR")["train_neg_sample_args"]["distribution"] == uniform
    assert toys(data_path, "RepeatNet")["train_neg_sample_args"]["distribution"] == none
    assert toys(data_path, "BPR")["train_neg_sample_args"]["distribution"] == uniform
    assert toys(data_path)["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    message = refused(data_path, train_neg_sample_args={"distribution": "uniform", "sample_num": 1})
    assert "should be None when the loss_type is CE" in message


def test_partial_eval_args_keep_the_other_keys(data_path: Path) -> None:
    config = toys(data_path, eval_args={"mode": "uni100"})
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["order"] == "TO"
    assert config["valid_neg_sample_args"] == {"distribution": "uniform", "sample_num": 100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid_metric": "MRR@10"}, "Hit@1, Hit@5, Hit@10, NDCG@1, NDCG@5, NDCG@10"),
        ({"topk": [1, 5]}, "valid_metric is NDCG@10"),
        ({"metrics": ["Hits", "NDCG"]}, "unknown metric Hits. Did you mean 'hit'?"),
        ({"metrics": []}, "metrics is an empty list; expected at least one"),
        ({"topk": [0, 10]}, "entry 1 is 0; expected a list of whole numbers from 1 to 10,000"),
        ({"topk": ["a"]}, "entry 1 is 'a'; expected"),
        ({"topk": []}, "topk is an empty list; expected at least one"),
        ({"metrics": ["AUC", "NDCG"]}, "RecBole refuses the options: Ranking metrics and value metrics"),
        ({"repeatable": False}, "please set `repeatable` as `True`"),
        ({"eval_args": {"splits": {}}}, "unknown key splits. Did you mean 'split'?"),
        ({"eval_args": {"split": {"LS": "valid"}}}, "split is {'LS': 'valid'}"),
        ({"eval_args": {"split": {"RS": []}}}, "expected {'LS'"),
        ({"eval_args": {"order": "XO"}}, "order is XO; expected TO or RO"),
        ({"eval_args": {"mode": "uni"}}, "mode is uni; expected full, uniN"),
        ({"nproc": 2}, "started by the command line"),
        ({"world_size": 4}, "ask for several processes, but this is one"),
        ({"parallel": "both"}, "parallel is both; expected ddp or fsdp"),
        ({"gpu_id": "first"}, "gpu_id is first"),
        ({"epoch": 3, "topk": "x"}, "2 mistakes"),
    ],
)
def test_wrong_options_are_refused(data_path: Path, options: dict[str, Any], message: str) -> None:
    assert message in refused(data_path, **options)


def test_names_must_be_given_and_known(data_path: Path) -> None:
    for options, message in (
        ({}, "option model is missing"),
        ({"model": "SASRec"}, "option dataset is missing"),
        ({"model": "sasrec", "dataset": "ml-100k"}, "Did you mean 'SASRec'"),
        ({"model": "SASRec", "dataset": "none"}, "none.inter not found"),
    ):
        with pytest.raises(UserError, match=message):
            LCRecConfig(config_dict={"data_path": str(data_path), **options})


@pytest.mark.parametrize("model", ["SASRec", "BPR", "FM", "KGAT", "DIN", "Pop"])
def test_resolved_options_give_the_same_experiment(tmp_path: Path, monkeypatch: Any, model: str) -> None:
    config = LCRecConfig(model, "ml-100k", cli={"seed": 3, "gpu_id": "0"})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()))
    monkeypatch.chdir(tmp_path)
    again = LCRecConfig(config_files=[path])
    assert again.final_config_dict == config.final_config_dict
    assert again.resolved() == config.resolved()


def test_resolved_names_the_parent_folder_absolutely(data_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(data_path.parent)
    config = LCRecConfig("SASRec", "toys", config_dict={"data_path": "data"})
    assert config["data_path"] == "data/toys"
    assert config.resolved()["data_path"] == str(data_path)
    config["output_dir"] = "there"
    assert config.resolved()["output_dir"] == "there"
    assert LCRecConfig("SASRec", "ml-100k").resolved()["data_path"] == str(bundled_ml_100k().parent)


def test_the_process_is_left_alone(data_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=__import__('os')", "-x"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    config = toys(data_path, use_gpu=False, gpu_id="3")
    assert config["epochs"] == 300
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert config["device"] == torch.device("cpu")
    assert yaml.load("1e-3", Loader=yaml.FullLoader) == "1e-3"
    given = {"eval_args": {"mode": "full"}, "learning_rate": np.float64(0.1), "data_path": str(data_path)}
    before = {**given, "eval_args": dict(given["eval_args"])}
    LCRecConfig("SASRec", "toys", config_dict=given)
    assert given == before


def test_recboles_argument_lists_do_not_grow(data_path: Path) -> None:
    from recbole.utils import dataset_arguments

    before = list(dataset_arguments)
    LCRecConfig("SASRec", "ml-100k")
    assert dataset_arguments == before
    assert "MAX_ITEM_LIST_LENGTH" in str(toys(data_path))


class Generative:
    """Stands in for LCRec, whose import takes seconds; the configuration looks at these two attributes only."""

    type = ModelType.SEQUENTIAL
    input_type = InputType.POINTWISE


def test_generative_models_need_a_beam_per_recommended_item(data_path: Path, monkeypatch: Any) -> None:
    real = configuration.model_class
    monkeypatch.setattr(configuration, "model_class", lambda name: Generative if name == "LCRec" else real(name))
    assert "num_beams is 5, less than the longest list in topk (10)" in refused(data_path, "LCRec", num_beams=5)
    assert toys(data_path, "SASRec", num_beams=5)["num_beams"] == 5
    assert toys(data_path, "LCRec", num_beams=10)["train_neg_sample_args"]["distribution"] == "none"


def test_the_device_follows_use_gpu_and_gpu_id(data_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert toys(data_path)["device"] == torch.device("cuda", 0)
    assert toys(data_path, gpu_id="1,0")["device"] == torch.device("cuda", 1)
    assert toys(data_path, gpu_id="")["device"] == torch.device("cpu")
    assert toys(data_path, use_gpu=False)["device"] == torch.device("cpu")
    assert "2 GPU(s) are visible" in refused(data_path, gpu_id="2")


@pytest.mark.gpu
def test_gpu_id_counts_visible_devices(data_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert toys(data_path)["device"] == torch.device("cuda", 0)
    assert "GPU(s) are visible" in refused(data_path, gpu_id="64")
