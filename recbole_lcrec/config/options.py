"""The table of known options and the check of what a user gives for them.

RecBole returns None for an option it does not know, so a typo silently trains a different model. The table here is
read from the YAMLs themselves, RecBole's and ours, whose comments carry type, range and text
(``num_beams: 20  # (int >= 1) Beams kept per user``). Nothing here imports torch or recbole, so that mistakes are
reported at once.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.declared import defaults_of, read_comments
from recbole_lcrec.config.domain import Domain, bounds_problem, parse_declaration
from recbole_lcrec.config.layers import KINDS
from recbole_lcrec.config.loader import MOST_DEPTH, Given, load_values, parse_value
from recbole_lcrec.config.paths import properties_dir, recbole_dir
from recbole_lcrec.config.recbole_options import INSTEAD, recbole_declarations
from recbole_lcrec.config.registry import QUANTIZERS, components_with_options
from recbole_lcrec.utils.errors import UserError, clipped, nearest

_NULL_TEXTS = {"None", "null", "Null", "NULL", "~"}
ANY = frozenset({"any"})
COMMANDS = {
    "config_files": "YAML files of options, on the command line.",
    "evaluate": "Folder of a finished run to evaluate again.",
    "resume": "Folder of an interrupted run to go on with.",
    "tune": "A search for hyper-parameters, perhaps with its space.",
    "resume_tune": "Folder of a search to go on with.",
    "export": "Folder of a finished run to write for plain transformers, into --output.",
    "export_lora": "With --export: adapters go into the weights (merged, the default) or into a folder (beside).",
    "recommend": "Folder of a finished run to recommend with, for --users or --histories, into --output.",
    "serve": "Folder of a finished run to serve over HTTP, or of two, side by side.",
}
"""What the command line takes in addition to options."""

_TEXTS = {
    "model": "The name of the model.",
    "dataset": "The name of the data set: files are <data_path>/<dataset>/<dataset>.inter and .item.",
}
"""Texts of the options that are in no YAML."""


@dataclass(frozen=True)
class Option:
    """A known option.

    Attributes:
        name: As in YAML files and on the command line.
        text: What it does, with its unit, from the comment on its default.
        default: The default in the first of :func:`yaml_files` that has one; models and data sets may differ.
        declaration: What it takes, as written in the comment on its default; empty if nothing is declared.
    """

    name: str
    text: str = ""
    default: Any = None
    declaration: str = ""

    @property
    def type_text(self) -> str:
        """What it takes, in brief: "int >= 1 or None"."""
        return re.sub(r"\b(word|name)\b", "str", self.declaration) or "any"

    @property
    def types(self) -> frozenset[str]:
        """Names of the types it takes: bool, int, float, str, list, dict, None; or "any"."""
        return self.domain.types if self.domain else ANY

    @cached_property
    def domain(self) -> Domain | None:
        """The values that it takes; None for anything that is plain data."""
        return parse_declaration(self.declaration) if self.declaration else None


def type_name(value: Any) -> str:
    """Return the name of the type of ``value`` as option comments write it."""
    if value is None or (isinstance(value, str) and value == "None"):
        return "None"
    return "list" if isinstance(value, tuple) else type(value).__name__


def yaml_files() -> list[Path]:
    """Return every YAML that documents options, the ones whose text holds for all models first."""
    ours, recbole = properties_dir(), recbole_dir() / "properties"
    files = [
        ours / "overall.yaml",
        recbole / "overall.yaml",
        recbole / "dataset" / "sample.yaml",
        *(ours / name for name in KINDS),
        ours / "tune.yaml",
        ours / "serve.yaml",
        ours / "recommend.yaml",
    ]
    for root in (ours, recbole):
        for folder in ("model", "dataset", "quick_start_config"):
            files += sorted((root / folder).glob("*.yaml"))
    listed = dict.fromkeys(files)
    return [path for path in listed if not path.name.endswith("url.yaml")]  # those list downloads, not options


def known_options() -> dict[str, Option]:
    """Return the options that RecBole, this package and the registered components have, by name.

    Raises:
        UserError: If a component's declaration of an option differs from an existing one.
    """
    return _with_components(len(components_with_options()), QUANTIZERS.names)


@lru_cache(maxsize=1)
def _with_components(components: int, quantizers: tuple[str, ...]) -> dict[str, Option]:
    """Return the table for a given number of components, which are only ever added."""
    assert components == len(components_with_options())
    table = dict(yaml_options())
    table["quantizer"] = replace(table["quantizer"], declaration=f"str: {' | '.join(quantizers)}")
    for component in components_with_options():
        defaults, comments = defaults_of(component)
        for name, value in defaults.items():
            declaration, text = comments.get(name, (None, ""))
            known = table.get(name)
            if known is None:
                table[name] = Option(name, text, value, declaration or "")
            elif declaration and known.declaration and declaration != known.declaration:
                raise UserError(
                    f"{component.name} ({component.where}) declares option {name} as ({declaration}), but it is known "
                    f"as ({known.declaration}). Use another name for it, or leave the declaration out."
                )
    return table


@lru_cache(maxsize=1)
def yaml_options() -> dict[str, Option]:
    """Return the options that a YAML of RecBole or of ours names, in the order of the files.

    Raises:
        AssertionError: If an option is declared twice.
    """
    texts, defaults, declared = dict(_TEXTS), dict[str, Any](), dict(recbole_declarations())
    for path in yaml_files():
        comments = read_comments(path)
        for name, value in load_values(path).items():
            defaults.setdefault(name, value)
            declaration, text = comments.get(name, (None, ""))
            texts[name] = texts.get(name) or text
            if declaration is not None and properties_dir() in path.parents:
                assert name not in declared, f"{path}: {name} is declared already, as ({declared[name]})"
                declared[name] = declaration
    names = dict.fromkeys([*defaults, *declared])
    return {name: Option(name, texts.get(name, ""), defaults.get(name), declared.get(name, "")) for name in names}


@lru_cache(maxsize=1)
def source_names() -> frozenset[str]:
    """Return the names in RecBole's argument_list.py and those that its source reads as ``config["name"]``."""
    pattern = re.compile(r"""config\[\s*["']([\w-]+)["']\s*\]""")
    names = set(re.findall(r"'([\w-]+)'", (recbole_dir() / "utils" / "argument_list.py").read_text(encoding="utf-8")))
    for path in sorted(recbole_dir().rglob("*.py")):
        names.update(pattern.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(names)


def find_option(name: str) -> Option:
    """Return the option called ``name``.

    Raises:
        UserError: If neither RecBole nor this package knows it (with the nearest known name), or it cannot be set.
    """
    if name in INSTEAD:
        raise UserError(f"option {name} cannot be set: {INSTEAD[name]}")
    table = known_options()
    if name in table:
        return table[name]
    if name in source_names():
        return Option(name)
    if name in COMMANDS:
        raise UserError(f"{name} is not an option of a run. On the command line: {COMMANDS[name]}")
    known = [option for option in [*table, *source_names(), *COMMANDS] if option not in INSTEAD]
    raise UserError(f"unknown option {clipped(name)}.{nearest(name, known)}")


def check(name: str, given: Given) -> Any:
    """Return the value of an option, converted to a type that the option takes.

    Text-typed options keep a scalar as it was written (``gpu_id=0`` is "0"); whole numbers given for a float become
    floats; True is not a number.

    Raises:
        UserError: If the option is unknown, or the value has a type that it does not take or lies outside its range.
    """
    option = find_option(name)
    given = replace(given, value=_plain(given.value))
    may_be_read = isinstance(given.value, str) and given.problem is None and bounds_problem(given.value) is None
    if may_be_read and not option.types & {"str", "any"}:
        given = parse_value(given.value, given.source)  # a Python caller's text, e.g. "[64, 32]" from a search space
    value, kind = given.value, type_name(given.value)
    if kind == "None":
        value = None
    written = given.text if kind != "dict" or not (given.text or "").startswith("{") else None
    if "str" in option.types and kind not in option.types and written is not None:
        value = written
        kind = "None" if value in _NULL_TEXTS else "str"
    if kind == "int" and kind not in option.types and "float" in option.types:
        value, kind = _as_float(value), "float"
    takes = "any" in option.types and _is_plain(value)
    if not takes and kind not in option.types:
        found = f"not valid YAML: {given.problem}" if given.problem else kind
        expected = f"{option.domain.words() if option.domain else option.type_text}{_about(option)}"
        raise UserError(f"option {name} is {_given_text(given)} ({found}); expected {expected}")
    _check_value(option, value, given)
    return value


def check_declared(name: str, value: Any) -> None:
    """Refuse a value that does not fit an option's declaration; a name that is not an option takes anything.

    Raises:
        UserError: If it does not fit.
    """
    option = known_options().get(name)
    if option is not None and option.domain is not None:
        check(name, Given(value, None, ""))


def _check_value(option: Option, value: Any, given: Given) -> None:
    """Refuse a value of the right type that is out of range, naming the range.

    Raises:
        UserError: If it is out of range.
    """
    problem = bounds_problem(value)
    if problem is not None:
        raise UserError(f"option {option.name} is {_given_text(given)}, {problem}{_about(option)}")
    if option.domain is None or (problem := option.domain.problem(value)) is None:
        return
    hint = nearest(value, option.domain.choices) if isinstance(value, str) else ""
    raise UserError(
        f"option {option.name} is {_given_text(given)}{f', {problem}' if problem else ''}; expected "
        f"{option.domain.words()}{f'.{hint}' if hint else ''}{_about(option)}"
    )


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _given_text(given: Given) -> str:
    if given.text is not None or isinstance(given.value, str):
        return clipped(given.text if given.text is not None else given.value)
    try:
        return clipped(repr(given.value))
    except ValueError:  # Python does not write out numbers of thousands of digits
        return f"of type {type(given.value).__name__}"


def _about(option: Option) -> str:
    return f" ({option.text})" if option.text else ""


def _is_plain(value: Any) -> bool:
    """Return True for what YAML can hold: None, bool, numbers, text, and lists and dicts of them."""
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(part) for key, part in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _plain(value: Any, depth: int = 0) -> Any:
    """Return numpy scalars as Python numbers, tuples as lists and paths as texts.

    Raises:
        UserError: If lists are nested deeper than those of any option, as a list that contains itself is.
    """
    if isinstance(value, (tuple, list, dict)) and depth > MOST_DEPTH:
        raise UserError(f"lists and mappings lie more than {MOST_DEPTH} deep in each other")
    if isinstance(value, (tuple, list)):
        return [_plain(part, depth + 1) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part, depth + 1) for name, part in value.items()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value
