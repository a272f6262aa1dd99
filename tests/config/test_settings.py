import importlib
import pkgutil
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import pytest

import recbole_lcrec
from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.config.options import yaml_options
from recbole_lcrec.config.settings import restored
from recbole_lcrec.utils.errors import UserError


@dataclass(frozen=True)
class Settings:
    num_levels: int
    layers: tuple[int, ...]
    derived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.num_levels < 1:
            raise ValueError(f"num_levels is {self.num_levels}; expected at least 1")


def test_fields_come_from_options_of_their_name() -> None:
    settings = settings_from(Settings, {"num_levels": 2, "layers": [3, 4], "other": 1})
    assert settings == Settings(2, (3, 4))


def test_what_the_settings_refuse_is_the_users_to_fix() -> None:
    with pytest.raises(UserError, match="num_levels is 0; expected at least 1"):
        settings_from(Settings, {"num_levels": 0, "layers": []})


def test_an_option_no_yaml_sets_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="no YAML of properties/ sets option layers"):
        settings_from(Settings, {"num_levels": 1})


@dataclass(frozen=True)
class Levels(StageSettings):
    num_levels: int
    index_mapping: str

    def check(self, mistakes: Any) -> None:
        mistakes.expect(self.num_levels < 32 or self.index_mapping != "digit", "one level more")


def test_settings_are_what_their_options_declare() -> None:
    assert Levels(2, "digit") == restored(Levels, {"num_levels": 2, "index_mapping": "digit"})
    assert restored(Levels, {}) == Levels(4, "optimal")
    with pytest.raises(UserError, match="one level more"):
        Levels(32, "digit")
    with pytest.raises(UserError) as raised:
        Levels(33, "both")
    assert len(raised.value.mistakes) == 2
    assert "option num_levels is 33; expected a whole number from 2 to 32" in raised.value.mistakes[0]
    assert "option index_mapping is both; expected optimal or digit" in raised.value.mistakes[1]


def test_options_have_their_defaults_and_ranges_in_the_yaml_alone() -> None:
    for module in pkgutil.walk_packages(recbole_lcrec.__path__, "recbole_lcrec."):
        if module.name.endswith(("settings", "encoder_decoder", "rpg", "tiger", "instructrec", "item_inputs", "lm")):
            importlib.import_module(module.name)
    waiting, found = [StageSettings], []
    while waiting:
        waiting += [cls for cls in waiting.pop().__subclasses__() if cls.__module__.startswith("recbole_lcrec.")]
        found += waiting
    assert len(set(found)) >= 18
    known = yaml_options()
    for cls in set(found):
        for one in fields(cls):
            if one.init and one.name not in ("own", "wordings"):
                assert known[one.name].domain is not None, f"{cls.__name__}.{one.name}"
                assert one.default is MISSING and one.default_factory is MISSING, f"{cls.__name__}.{one.name}"
