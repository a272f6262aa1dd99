"""From the flat configuration to the typed, frozen settings of one stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from recbole_lcrec.config.declared import defaults_of
from recbole_lcrec.config.options import check_declared, known_options
from recbole_lcrec.utils.errors import Mistakes, UserError

Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """Base of the options of one stage, validated on construction.

    What a field takes, and its default, is declared once, in a YAML of properties/; a subclass adds which
    fields contradict each other.

    Raises:
        UserError: One for all mistakes.
    """

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        for field in dataclasses.fields(self):
            if field.init:
                with mistakes.caught():
                    check_declared(field.name, getattr(self, field.name))
        mistakes.finish()
        self.check(mistakes)
        mistakes.finish()

    def check(self, mistakes: Mistakes) -> None:
        """Note fields that contradict each other; each already fits its declaration."""


def restored(cls: type[Settings], saved: Mapping[str, Any]) -> Settings:
    """Return settings that a run has written; options that did not exist then have their defaults."""
    known = known_options()
    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    return cls(**{**{name: known[name].default for name in names if name in known}, **saved})


def settings_from(cls: type[Settings], config: Any, **given: Any) -> Settings:
    """Build a frozen dataclass from the options that have the names of its fields.

    Args:
        cls: A dataclass; a list is handed to a field annotated ``tuple`` as a tuple. A field ``own`` gets the options
            declared by the registered component that ``cls.component(config)`` returns.
        config: An :class:`LCRecConfig`, or any mapping of option names to values.
        **given: Fields that are not options.

    Raises:
        UserError: If the dataclass refuses a value (its ``__post_init__`` raises ValueError).
        AssertionError: If the configuration lacks an option, which means that one of our YAMLs forgot it.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if not field.init:
            continue
        if field.name in given:
            values[field.name] = given[field.name]
            continue
        assert field.name == "own" or field.name in config, (
            f"no YAML of properties/ sets option {field.name}, which {cls.__name__} needs"
        )
        value = _own(cls, config) if field.name == "own" else config[field.name]
        if isinstance(value, list) and "tuple" in str(field.type):
            value = tuple(value)
        values[field.name] = value
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(str(error)) from error


def _own(cls: Any, config: Any) -> dict[str, Any]:
    return {name: config[name] for name in defaults_of(cls.component(config))[0]}
