"""Options are checked whole and before any data are read, whichever way a run is started."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, write_dataset

from recbole_lcrec import experiment
from recbole_lcrec.comparison.plan import make_plan
from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.config import LCRecConfig, registry
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.options import check
from recbole_lcrec.config.sizing import SIZED
from recbole_lcrec.experiment import building, factory, running
from recbole_lcrec.experiment.checks import check_settings
from recbole_lcrec.training.states import StateSettings
from recbole_lcrec.training.training_settings import TrainingSettings
from recbole_lcrec.utils.errors import Mistakes, UserError

OUT_OF_RANGE: dict[str, Any] = {
    "lr_scheduler": "linear",
    "precision": "fp61",
    "codebook_size": 1_000_000_000,
    "lm_dropout": 2.0,
    "item_score_weight": 7.0,
    "index_mapping": "numbers",
    "eval_task": "sleep",
    "keep_last": -1,
    "learning_rate": -1.0,
    "MAX_ITEM_LIST_LENGTH": 0,
}
"""Values that their options do not take, seen as they are read."""

UNFIT: dict[str, Any] = {
    "lm_heads": 3,
    "task_samples": {"itemsearch": 0},
    "codebook_size": 65_536,
    "user_text": "gpt",
    "learner": "sparse_adam",
}
"""Values that do not go with others or mean nothing, seen when the settings of every stage are built."""


def options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    places = {"output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache")}
    return {**TINY, "data_path": str(write_dataset(tmp_path)), **places, **changes}


def compared(given: dict[str, Any]) -> None:
    make_plan("toy", [Entry("LCRec", "LCRec")], [1], given, 1)


WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "run": lambda given: experiment.run("LCRec", "toy", given),
    "trial": lambda given: experiment.build("LCRec", "toy", given, with_test=False),
    "comparison": compared,
}


@pytest.mark.parametrize("wrong", [OUT_OF_RANGE, UNFIT], ids=["range", "unfit"])
@pytest.mark.parametrize("way", list(WAYS))
def test_all_mistakes_are_told_at_once_before_data_are_read(
    way: str, wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((building, "build_data"), (running, "split_of"), (factory, "dataset_class")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("data are read"))
    with pytest.raises(UserError) as raised:
        WAYS[way](options(tmp_path, **wrong))
    message = str(raised.value)
    for option in wrong:
        assert option in message, option
    assert ("To switch a task off, leave it out of tasks." in message) == ("task_samples" in wrong)
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_a_saved_run_is_checked_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path, epochs=1, tasks=["seqrec"])
    experiment.run("LCRec", "toy", given)
    monkeypatch.setattr(building, "build_data", lambda *_: pytest.fail("data are read"))
    with pytest.raises(UserError, match=r"(?s)--lm_heads cannot go with a saved run.*lm_heads=2"):
        experiment.load_experiment(tmp_path / "out", {"lm_heads": 3})
    with pytest.raises(UserError, match="precision is fp61"):
        experiment.load_experiment(tmp_path / "out", {"precision": "fp61"})


def test_instructrec_is_checked_before_its_language_model_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "build_data", lambda *_: pytest.fail("data are read"))
    with pytest.raises(UserError, match="length_exponent is 2.0; expected"):
        experiment.build("InstructRec", "toy", options(tmp_path, task_samples=8, length_exponent=2.0))


def test_mistakes_of_several_sources_become_one() -> None:
    mistakes = Mistakes()
    mistakes.finish()
    with mistakes.caught():
        raise UserError("one")
    with mistakes.caught():
        inner = Mistakes()
        inner.add("two")
        inner.expect(False, "three")
        inner.expect(True, "nothing")
        inner.add("one")
        inner.finish()
    with pytest.raises(UserError) as raised:
        mistakes.finish()
    assert raised.value.mistakes == ("one.", "two.", "three.")
    with pytest.raises(ValueError, match="not the user's"), mistakes.caught():
        raise ValueError("not the user's")


ODD = [
    *(0, -1, 1, 10**12, 1e300, -0.5, math.nan, math.inf, True, None, "", "x", "0"),
    *([], [0], [-1], ["x"], [[1]], [None], [10**12], {}, {"x": 1}, {"seqrec": 0}, {"seqrec": None}, {"max_norm": "x"}),
]


class Options(dict[str, Any]):
    """Options as a configuration answers: None for what it does not have."""

    def __missing__(self, name: str) -> None:
        return None


@pytest.mark.parametrize("model", ["LCRec", "TIGER", "P5CID", "TALLRec", "InstructRec", "SASRec"])
def test_no_value_of_an_option_ends_in_anything_but_a_message(model: str, tmp_path: Path) -> None:
    small = {"task_samples": 8} if model in ("TALLRec", "InstructRec") else {}
    config = LCRecConfig(model, "toy", config_dict=options(tmp_path, **small))
    plain = Options(config.final_config_dict, model=model)
    check_settings(plain)
    classes = (StateSettings, TrainingSettings, *getattr(registry.model_class(model), "settings", ()))
    names = {field.name for settings in classes for field in dataclasses.fields(settings) if field.init}
    refused = 0
    for name in sorted(names | {"eval_task", "eval_prompts", "user_buckets", "item_loss_weight"} & plain.keys()):
        for value in ODD:
            try:
                given = check(name, Given(value, None, "test"))
                if given is None and name in SIZED:  # a configuration has given it a size by now
                    continue
                check_settings(Options(plain, **{name: given}))
            except UserError as error:
                assert len(str(error)) < 2000 and error.mistakes
                refused += 1
    assert refused > len(names), "most odd values are refused"
