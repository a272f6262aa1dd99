"""Base models of several architectures load through the ordinary path; LoRA trains and saves the new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, save_checkpoint, write_dataset
from torch.nn import functional

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.decoding.architecture import blocks_of, n_layers
from recbole_lcrec.experiment import Experiment, build, load_experiment, run
from recbole_lcrec.instruction.loader import INPUT_IDS, LOSS_WEIGHTS
from recbole_lcrec.utils.causal_lm import load_causal_lm
from recbole_lcrec.utils.errors import UserError


def experiment(tmp_path: Path, **options: Any) -> Experiment:
    config = {"data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out"), **TINY}
    return build("LCRec", "toy", {**config, "cache_dir": str(tmp_path / "cache"), **options})


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_base_models_are_extended_trained_and_saved(tmp_path: Path, kind: str, tuning: str) -> None:
    base = save_checkpoint(tmp_path / kind, kind)
    options = {"base_model": str(base), "tuning": tuning, "lora_r": 2, "max_length": 400, "learning_rate": 0.01}
    options["base_layers"] = 1 if kind == "qwen2" else None
    data = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    result = run("LCRec", "toy", {**TINY, **data, "output_dir": str(tmp_path / "out"), **options, "epochs": 1})
    counts = result["parameters"]
    assert counts["trainable"] < counts["total"] if tuning == "lora" else counts["trainable"] == counts["total"]
    loaded = load_experiment(tmp_path / "out")
    assert loaded.evaluate("test") == result["test_result"]
    assert n_layers(loaded.model.lm) == len(blocks_of(loaded.model.lm)) == (1 if kind == "qwen2" else 2)
    fresh = build("LCRec", "toy", {**TINY, **data, "output_dir": str(tmp_path / "fresh"), **options})
    new = fresh.model.tokenizer.convert_tokens_to_ids("<a_0>")
    before = fresh.model.lm.get_input_embeddings()(torch.tensor([new]))
    after = loaded.model.lm.get_input_embeddings()(torch.tensor([new]))
    assert not torch.equal(before, after), "the new rows must have been trained and saved"
    weights = (tmp_path / "out" / "checkpoint" / "model.safetensors").stat().st_size
    assert tuning == "full" or weights < 0.7 * sum(p.numel() * 4 for p in loaded.model.parameters())
    save_checkpoint(base, kind, seed=1)
    if tuning == "lora":
        with pytest.raises(UserError, match=f"base_model={base}: its weights are not those that the adapter in"):
            load_experiment(tmp_path / "out")
    else:
        assert load_experiment(tmp_path / "out").evaluate("test") == result["test_result"]


def test_loss_is_the_weighted_mean_of_the_plain_forward(tmp_path: Path) -> None:
    model = experiment(tmp_path, history_loss_weight=0.5).model
    torch.manual_seed(0)
    ids = torch.randint(0, 300, (3, 12))
    weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(0, 3, (3, 12))]
    logits = model.lm(input_ids=ids).logits[:, :-1]
    losses = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    expected = (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
    loss = model.calculate_loss({INPUT_IDS: ids, LOSS_WEIGHTS: weights})
    torch.testing.assert_close(loss, expected)


def test_a_batch_of_eight_equals_eight_accumulated_batches_of_one(tmp_path: Path) -> None:
    states = []
    for size, steps in ((8, 1), (1, 8)):
        options = {"train_batch_size": size, "gradient_accumulation_steps": steps, "task_samples": {"seqrec": 24}}
        made = experiment(tmp_path, **options, tasks=["seqrec"], history_loss_weight=1.0, learner="sgd", epochs=1)
        made.trainer._train_epoch(made.train_data, 0)
        states.append(made.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"base_model": "no/such-model"}, "base_model=no/such-model"),
        ({"tuning": "lora"}, "lora adapts a pretrained model"),
        ({"tuning": "half"}, "expected full or lora"),
        ({"lm_hidden_size": 30, "lm_heads": 4}, "lm_hidden_size=30"),
    ],
)
def test_wrong_options_get_a_message(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        experiment(tmp_path, **options)


def test_the_first_layers_of_a_base_model_are_its_own(tmp_path: Path) -> None:
    base = str(save_checkpoint(tmp_path / "qwen2", "qwen2"))
    whole, cut = load_causal_lm(base, "base_model"), load_causal_lm(base, "base_model", layers=1)
    assert len(cut.model.layers) == len(cut.config.layer_types) == 1
    for name, weight in cut.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
    with pytest.raises(UserError, match=f"base_layers=3: base_model={base} has 2 layers"):
        experiment(tmp_path, base_model=base, base_layers=3, max_length=400)
    with pytest.raises(UserError, match="base_layers=2 takes the first layers of a base_model"):
        experiment(tmp_path, base_layers=2)


def test_a_base_model_too_short_for_max_length_is_refused(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "gpt2", "gpt2")
    with pytest.raises(UserError, match="takes at most 504 tokens"):
        experiment(tmp_path, base_model=str(base), max_length=600)


def test_dropout_acts_in_training_only(tmp_path: Path) -> None:
    model = experiment(tmp_path, lm_dropout=0.5).model
    batch = {INPUT_IDS: torch.randint(0, 300, (2, 9)), LOSS_WEIGHTS: torch.ones(2, 9)}
    model.eval()
    assert model.calculate_loss(batch) == model.calculate_loss(batch)
    model.train()
    assert model.calculate_loss(batch) != model.calculate_loss(batch)


def test_a_base_model_brings_the_papers_recipe_and_options_still_win(tmp_path: Path) -> None:
    base = str(save_checkpoint(tmp_path / "gpt2", "gpt2"))
    data = {"data_path": str(write_dataset(tmp_path)), "base_model": base}
    config = LCRecConfig("LCRec", "toy", config_dict=data, cli={"learning_rate": 0.01})
    assert config["history_loss_weight"] == 0 and config["history_separator"] == ", " and not config["history_windows"]
    assert (
        config["learning_rate"] == 0.01 and config["train_batch_size"] * config["gradient_accumulation_steps"] == 128
    )
    assert LCRecConfig("LCRec", "toy", config_dict={**data, "base_model": None})["history_loss_weight"] == 1
