from dataclasses import dataclass, field

import pytest

from recbole_lcrec.config import settings_from
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
