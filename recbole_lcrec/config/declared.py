"""Options as they are declared: in the comments of a YAML, or as the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import parse_declaration, split_comment
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.registry import Component
from recbole_lcrec.utils.errors import UserError

_LINE = re.compile(r"^(?P<name>[A-Za-z_][\w-]*)\s*:(?P<value>.*?)(?:\s#\s*(?P<comment>.*))?$")
_CONTINUED = re.compile(r"^\s+#\s*(?P<comment>.*)$")


def read_comments(path: Path) -> dict[str, tuple[str | None, str]]:
    """Return option name -> (declaration or None, text) from the comments on the top-level keys of a YAML.

    Indented comment lines belong to the key before them.
    """
    comments: dict[str, list[str]] = {}
    name = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            name = found["name"]
            comments[name] = [found["comment"]] if found["comment"] else []
        elif name is not None and (found := _CONTINUED.match(line)):
            comments[name].append(found["comment"])
    return {name: split_comment(" ".join(parts)) for name, parts in comments.items() if parts}


def defaults_of(component: Component) -> tuple[dict[str, Any], dict[str, tuple[str | None, str]]]:
    """Return a component's own options with their defaults, and their declarations and texts.

    Raises:
        UserError: If its YAML cannot be read, or its dataclass has a field without a default.
    """
    given = component.defaults
    if given is None:
        return {}, {}
    if isinstance(given, Mapping):
        return dict(given), {}
    if isinstance(given, (str, Path)):
        return load_values(given), read_comments(Path(given))
    values: dict[str, Any] = {}
    comments: dict[str, tuple[str | None, str]] = {}
    for one in dataclasses.fields(given):  # type: ignore[arg-type]
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if default is dataclasses.MISSING:
            raise UserError(f"{component.name}: field {one.name} of {given.__qualname__} has no default; give it one.")
        values[one.name] = list(default) if isinstance(default, tuple) else default
        comments[one.name] = (one.metadata.get("takes") or _annotation(one.type), one.metadata.get("help", ""))
    return values, comments


def _annotation(annotation: Any) -> str | None:
    """Return "list of int or None" for ``list[int] | None``; None for an annotation that options cannot have."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    words = []
    for part in str(annotation).split("|") if "|" in str(annotation) else [text]:
        found = re.fullmatch(r"(\w+)(?:\[(\w+)(?:, \.\.\.)?\])?", part.strip())
        if found is None:
            return None
        outer = "list" if found[1] == "tuple" else found[1]
        words.append(f"{outer} of {found[2]}" if found[2] and outer == "list" else outer)
    declaration = " or ".join(words)
    return declaration if parse_declaration(declaration) is not None else None
