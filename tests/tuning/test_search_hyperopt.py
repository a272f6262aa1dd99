from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.config.loader import Given
from recbole_lcrec.tuning import named_search, tpe
from recbole_lcrec.tuning.journal import JOURNAL, Journal
from recbole_lcrec.tuning.space import Space, read_space
from recbole_lcrec.utils.errors import UserError

VALUES = {
    "learning_rate": {"loguniform": [1e-4, 1e-1]},
    "tuning": {"choice": ["full", "lora"]},
    "lora_r": {"choice": [4, 8], "when": {"tuning": "lora"}},
    "lm_layers": {"randint": [1, 5]},
}


def space_of(values: dict[str, Any]) -> Space:
    return read_space({name: Given(value, None, "x") for name, value in values.items()}, "x")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(VALUES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        tpe.check_hyperopt(space)


def test_an_option_with_two_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of({**VALUES, "lora_alpha": {"choice": [8, 16], "when": {"tuning": "lora", "lora_r": 4}}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(UserError, match="lora_alpha has several"):
        tpe.check_hyperopt(space)


def run_some(journal: Journal, number: int, total: int = 30) -> list[dict[str, Any]]:
    """Ask for configurations and answer with a score that asks for three layers and a small learning rate."""
    space = space_of(VALUES)
    searcher = named_search.make_searcher(space, journal, number=total, bigger=True, seed=1)
    found = []
    for place in range(number):
        trial = searcher.suggest(f"ray-{place}")
        name, values = trial["trial"]["name"], trial["trial"]["values"]
        found.append(values)
        score = -abs(values["lm_layers"] - 3) - values["learning_rate"]
        journal.write("started", name, anew=True)
        journal.write("reported", name, epoch=1, score=score, metrics={}, seconds=1.0, values=values)
        searcher.on_trial_complete(f"ray-{place}", {"best_score": score})
        journal.write("ended", name, status="finished")
    return found


def test_hyperopt_learns_and_goes_on_after_a_resume_as_if_nothing_had_been(tmp_path: Path) -> None:
    pytest.importorskip("hyperopt")
    pytest.importorskip("ray")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run_some(Journal(tmp_path / "a" / JOURNAL), 30)
    assert all(("lora_r" in values) == (values["tuning"] == "lora") for values in whole)
    assert sum(values["lm_layers"] == 3 for values in whole[15:]) > 8  # 4 by chance
    first = Journal(tmp_path / "b" / JOURNAL)
    begun = run_some(first, 12)
    first.close()
    assert begun + run_some(Journal(tmp_path / "b" / JOURNAL), 18) == whole
