from pathlib import Path

import numpy as np
import pytest
from recbole.trainer import KGTrainer

from recbole_lcrec.config.loader import Given
from recbole_lcrec.training.preference_stage import PreferenceTrainer
from recbole_lcrec.training.trainer import with_features
from recbole_lcrec.tuning.schedulers import check_population
from recbole_lcrec.tuning.search_settings import SearchSettings, space_file, tune_options
from recbole_lcrec.tuning.space import Space, load_space, read_space
from recbole_lcrec.utils.errors import UserError

CONDITIONAL = """
tuning: {choice: [full, lora]}
lora_r: {choice: [4, 8], when: {tuning: lora}}
learning_rate: {loguniform: [1e-4, 1e-2]}
"""


def space_of(text: str, folder: Path) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


def mistakes_of(text: str, folder: Path) -> str:
    with pytest.raises(UserError) as error:
        space_of(text, folder)
    return str(error.value)


def test_every_kind_is_drawn_within_its_bounds_and_in_the_option_s_type(tmp_path: Path) -> None:
    space = space_of(
        "learning_rate: {loguniform: [1e-4, 1e-2]}\nlm_dropout: {uniform: [0, 0.5]}\n"
        "hidden_dropout_prob: {quniform: [0.1, 0.5, 0.2]}\nlm_layers: {randint: [1, 4]}\n"
        "lm_heads: {quniform: [2, 8, 2]}\nlearner: {choice: [adam, adamw]}\n",
        tmp_path,
    )
    drawn = space.random(300, seed=1)
    rates = np.array([values["learning_rate"] for values in drawn])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-2
    assert 0.4 < (rates < 1e-3).mean() < 0.6  # half of them below the geometric middle
    assert all(0 <= values["lm_dropout"] <= 0.5 and isinstance(values["lm_dropout"], float) for values in drawn)
    assert {values["hidden_dropout_prob"] for values in drawn} == {0.1, 0.3, 0.5}
    assert {values["lm_layers"] for values in drawn} == {1, 2, 3}
    assert {values["lm_heads"] for values in drawn} == {2, 4, 6, 8}
    assert all(isinstance(values[name], int) for values in drawn for name in ("lm_layers", "lm_heads"))
    assert {values["learner"] for values in drawn} == {"adam", "adamw"}


def test_a_condition_switches_an_option_on_and_off(tmp_path: Path) -> None:
    space = space_of(CONDITIONAL, tmp_path)
    drawn = space.random(50, seed=0)
    assert all(("lora_r" in values) == (values["tuning"] == "lora") for values in drawn)
    chained = space_of(
        "stopping_step: {choice: [1, 2]}\nlm_layers: {choice: [1, 2], when: {stopping_step: 2}}\n"
        "lm_heads: {choice: [2, 4], when: {lm_layers: [2]}}\n",
        tmp_path,
    )
    assert chained.grid() == [
        {"stopping_step": 1},
        {"stopping_step": 2, "lm_layers": 1},
        {"stopping_step": 2, "lm_layers": 2, "lm_heads": 2},
        {"stopping_step": 2, "lm_layers": 2, "lm_heads": 4},
    ]


def test_a_larger_search_begins_with_the_configurations_of_a_smaller_one(tmp_path: Path) -> None:
    space = space_of(CONDITIONAL, tmp_path)
    assert space.random(12, seed=3)[:5] == space.random(5, seed=3)
    assert space.random(5, seed=3) != space.random(5, seed=4)


def test_no_configuration_is_drawn_twice(tmp_path: Path) -> None:
    space = space_of("lm_layers: {choice: [1, 2]}\nlm_heads: {choice: [2, 4]}\n", tmp_path)
    assert len(space.random(50, seed=0)) == 4


def test_a_space_survives_being_written_and_read(tmp_path: Path) -> None:
    space = space_of(CONDITIONAL + "lm_layers: {randint: [1, 4]}\nlm_dropout: {quniform: [0, 0.4, 0.1]}\n", tmp_path)
    again = read_space({name: Given(value, None, "again") for name, value in space.as_values().items()}, "again")
    assert again.dimensions == space.dimensions


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lerning_rate: {choice: [1]}", ["space.yaml, line 1: option lerning_rate", "Did you mean 'learning_rate'?"]),
        ("learning_rate: 0.1", ["found '0.1'", "loguniform: [low, high]", "--learning_rate="]),
        ("learning_rate: {choise: [0.1]}", ["unknown kind choise", "Did you mean 'choice'?"]),
        ("learning_rate: {choice: [0.1], uniform: [0, 1]}", ["found choice, uniform"]),
        ("learning_rate: {when: {learner: adam}}", ["found no kind"]),
        ("learning_rate: {choice: 0.1}", ["choice is 0.1; expected a list"]),
        ("learning_rate: {choice: []}", ["expected a list"]),
        ("learning_rate: {choice: [0.1, 0.1]}", ["names 0.1 twice"]),
        ("learning_rate: {choice: [high]}", ["option learning_rate is high (str)", "expected a number above 0"]),
        ("learning_rate: {loguniform: [0, 1]}", ["expected low above 0"]),
        ("learning_rate: {uniform: [1, 0.5]}", ["expected low < high"]),
        ("learning_rate: {uniform: [0.1]}", ["expected 2 numbers"]),
        ("learning_rate: {uniform: [0.1, .inf]}", ["expected 2 numbers"]),
        ("learning_rate: {quniform: [0.1, 0.2, 0.5]}", ["expected a step"]),
        ("lm_layers: {uniform: [1, 4]}", ["draws fractions", "Use randint"]),
        ("lm_layers: {randint: [1.5, 4]}", ["expected whole numbers"]),
        ("learner: {uniform: [1, 4]}", ["draws numbers, but the option takes str"]),
        ("learner: {choice: [adam], when: adam}", ["when is 'adam'; expected another option"]),
        ("learner: {choice: [adam], when: {lm_layer: 1}}\nlm_layers: {choice: [1]}", ["Did you mean 'lm_layers'?"]),
        (
            "learner: {choice: [adam], when: {lm_layers: 3}}\nlm_layers: {choice: [1, 2]}",
            ["lm_layers=3", "never drawn"],
        ),
        ("learner: {choice: [adam], when: {lm_dropout: 0.1}}\nlm_dropout: {uniform: [0, 0.9]}", ["Use choice for it"]),
        (
            "learner: {choice: [adam], when: {lm_layers: 1}}\nlm_layers: {choice: [1], when: {learner: adam}}",
            ["lead back to itself"],
        ),
        ("seed: {choice: [1, 2]}", ["luck"]),
        ("topk: {choice: [[1], [5]]}", ["changes what is measured"]),
        ("output_dir: {choice: [a, b]}", ["belongs to the whole search"]),
        ("num_samples: {choice: [1, 2]}", ["option of the search itself"]),
        ("", ["the search space is empty"]),
        ("learning_rate: {choice: [", ["not valid YAML"]),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = mistakes_of(text, tmp_path)
    for part in parts:
        assert part in message


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = mistakes_of(
        "lerning_rate: {choice: [1]}\n\nseed: {choice: [1]}\nlm_layers: {uniform: [1, 2]}\n", tmp_path
    )
    assert message.startswith("3 mistakes")
    assert all(f"line {line}:" in message for line in (1, 3, 4))


def test_nothing_in_a_space_is_evaluated(tmp_path: Path) -> None:
    message = mistakes_of("learning_rate: {choice: [\"__import__('os').abort()\"]}", tmp_path)
    assert "expected a number above 0" in message


def test_a_grid_needs_finite_lists_that_are_not_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate are drawn from a range"):
        space_of(CONDITIONAL, tmp_path).grid()
    with pytest.raises(UserError, match="combinations, more than 10,000"):
        space_of("train_batch_size: {randint: [1, 2000]}\nlm_layers: {randint: [1, 9]}\n", tmp_path).grid()


def test_every_space_that_comes_with_the_package_can_be_read() -> None:
    files = sorted(space_file("SASRec", None).parent.glob("*.yaml"))
    assert {path.stem for path in files} >= {"LCRec", "SASRec", "BPR", "GRU4Rec", "BERT4Rec"}
    for path in files:
        assert len(load_space(path).random(20, seed=0)) == 20


def test_a_space_is_given_by_path_or_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = space_file("LCRec", "LCRec-preferences")
    assert found.parent == space_file("LCRec", None).parent and "preference_stage" in load_space(found).names
    Path("LCRec-preferences").write_text("")
    assert space_file("LCRec", "LCRec-preferences") == Path("LCRec-preferences")


def test_pbt_goes_with_lcrec_but_not_with_a_stage_behind_its_training() -> None:
    settings = SearchSettings(**{**tune_options(), "scheduler": "pbt"})
    check_population(settings, PreferenceTrainer, "none")
    with pytest.raises(UserError, match="preference_stage=dpo begins when a training has ended"):
        check_population(settings, PreferenceTrainer, "dpo")
    with pytest.raises(UserError, match="has a loop of its own"):
        check_population(settings, with_features(KGTrainer), None)


def test_a_model_without_a_space_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no search space for model Pop .*(?s:.)*--tune=space.yaml"):
        space_file("Pop", None)
