"""Sizes that follow from the data: sensible for any data, and only where nobody has said otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_lcrec.config.configuration import LCRecConfig
from recbole_lcrec.config.sizing import SIZED, DataSize, sizes_of

BATCH = {"train_batch_size": 64, "gradient_accumulation_steps": 1}


@pytest.mark.parametrize(
    ("items", "interactions", "samples", "codes", "width", "dropouts", "epochs", "eval_step"),
    [
        (12, 40, 10, [16, 16], 128, (0.4, 0.2), 10240, 256),
        (300, 5_000, 500, [64, 64], 128, (0.4, 0.2), 1280, 32),
        (1_682, 97_171, 5_300, [256, 128], 256, (0.4, 0.2), 160, 4),
        (4_344, 33_541, 8_317, [1024, 64], 128, (0.4, 0.2), 80, 2),
        (5_282, 51_000, 8_341, [1024, 64], 128, (0.4, 0.2), 80, 2),
        (2_000, 51_000, 8_341, [512, 64], 256, (0.4, 0.2), 80, 2),
        (12_086, 131_219, 22_332, [2048, 128], 128, (0.2, 0.1), 40, 1),
        (20_000, 250_000, 40_000, [4096, 64], 256, (0.2, 0.1), 40, 1),
        (100_000, 3_000_000, 400_000, [4096, 512], 512, (0.2, 0.1), 40, 1),
    ],
)
def test_sizes(
    items: int,
    interactions: int,
    samples: int,
    codes: list[int],
    width: int,
    dropouts: tuple[float, float],
    epochs: int,
    eval_step: int,
) -> None:
    assert sizes_of(DataSize(items, interactions, samples), BATCH) == {
        "num_levels": 2,
        "codebook_size": codes,
        "lm_hidden_size": width,
        "lm_intermediate_size": 2 * width,
        "lm_dropout": dropouts[0],
        "lm_layer_dropout": dropouts[1],
        "epochs": epochs,
        "eval_step": eval_step,
    }


@pytest.mark.parametrize("items", [1, 7, 10**3, 10**4, 10**6, 10**7])
def test_paths_are_enough_and_epochs_never_shrink_with_the_data(items: int) -> None:
    sizes = sizes_of(DataSize(items, 10 * items, items), BATCH)
    first, second = sizes["codebook_size"]
    assert first * second >= min(2 * items, 4096 * 4096)
    assert sizes["epochs"] * -(-items // 64) >= 10_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"num_levels": 4}, {"codebook_size": 256}),
        ({"codebook_size": 64}, {"num_levels": 4}),
        ({"codebook_size": [9, 9, 9]}, {"num_levels": 3}),
        ({"lm_hidden_size": 32}, {"lm_intermediate_size": 64}),
    ],
)
def test_what_is_given_decides_about_the_rest(given: dict[str, Any], expected: dict[str, Any]) -> None:
    sizes = sizes_of(DataSize(5_000, 50_000, 8_000), {**BATCH, **given})
    assert {name: sizes[name] for name in expected} == expected


def test_every_size_has_a_rule() -> None:
    assert set(sizes_of(DataSize(5_000, 50_000, 8_000), BATCH)) == set(SIZED)


def test_a_configuration_waits_for_the_data() -> None:
    config = LCRecConfig("LCRec", "ml-100k", config_dict={"epochs": 7})
    waiting = config.resolved()
    assert waiting["codebook_size"] is None and waiting["lm_hidden_size"] is None and waiting["epochs"] == 7
    config.size_by(DataSize(300, 5_000, 500))
    assert config["codebook_size"] == config.resolved()["codebook_size"] == [64, 64] and config["epochs"] == 7
    again = LCRecConfig(config_dict=config.resolved())
    assert again.size_by(DataSize(10**5, 10**7, 10**6)) == {}, "a saved run keeps its sizes"


def test_recipes() -> None:
    def options(**given: Any) -> LCRecConfig:
        return LCRecConfig("LCRec", "ml-100k", config_dict=given)

    scratch, paper = options(), options(recipe="paper")
    assert scratch["history_input"] == "item" and scratch["item_features"] and "itemsearch" in scratch["tasks"]
    assert paper["history_input"] == "tokens" and paper["history_loss_weight"] == 0 and paper["tasks"][0] == "seqrec"
    assert options(quantizer="random")["item_features"] is False, "there are no embeddings to feed"
    assert options(recipe="paper", history_loss_weight=1.0)["history_loss_weight"] == 1, "single options win"
    laptop, gpu = options(recipe="laptop_cpu"), options(recipe="gpu_24gb", base_model="some/model")
    assert (laptop["base_model"], laptop["base_layers"], laptop["lm_dropout"]) == ("smollm2-135m", 10, 0.0)
    assert (gpu["base_model"], gpu["tuning"], gpu["history_loss_weight"]) == ("some/model", "lora", 0)
