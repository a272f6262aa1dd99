"""Reading YAML 1.2: files, and the values of the command line, each with the place it came from.

PyYAML reads YAML 1.1, where ``1:30`` is 90, ``010`` is 8 and ``on`` is True; RecBole changes its ``FullLoader`` for
the whole process and evaluates command-line values as Python. Here a private loader has the core schema of YAML 1.2
(yaml.org/spec/1.2.2, 10.3), nothing is ever evaluated, and the size that a document may expand to is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from recbole_lcrec.utils.errors import UserError, clipped

MOST_DEPTH = 32
"""Nesting depth of lists and mappings."""
MOST_VALUES = 100_000
"""Values in a document, counting each repetition by an alias."""
MOST_BYTES = 2_000_000
"""Size of a file of options, in bytes."""
MOST_DIGITS = 400
"""Characters of a number."""

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"^(?:~|null|Null|NULL|None|)$")  # None is how RecBole's users write it
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_RESOLVERS = (
    (f"{_TAG}null", _NULL, ["~", "n", "N", ""]),
    (f"{_TAG}bool", _BOOL, list("tTfF")),
    (f"{_TAG}int", _INT, list("-+0123456789")),
    (f"{_TAG}float", _FLOAT, list("-+0123456789.")),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader of YAML 1.2 that bounds depth and size and refuses repeated keys and unknown tags."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[str | None, Callable[[Any, Any], Any]]] = {}  # type: ignore[misc]

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node after counting it; an alias counts as much as what it stands for."""
        event = self.peek_event()
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"lists and mappings lie more than {MOST_DEPTH} deep in each other", event.start_mark
            )
        before, is_alias = self._values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias that contains itself", event.start_mark)
        self._values += self._sizes[id(node)] if is_alias else 1
        if self._values > MOST_VALUES:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST_VALUES:,} values, counting those that aliases repeat", event.start_mark
            )
        self._sizes.setdefault(id(node), self._values - before)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking that every key is written once and has a value of its own."""
        if not isinstance(node, yaml.MappingNode):
            raise _refusal(node, "expected a mapping")
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal(key, "the name before ':' is not a single word or number")
            if key.value in seen:
                raise _refusal(key, f"'{key.value}' is given twice")
            seen.add(key.value)
            if key.style is None and ":" in key.value and value.start_mark.index == value.end_mark.index:
                raise _refusal(key, f"a blank is missing after ':' in '{key.value}'")
        values = yaml.constructor.BaseConstructor.construct_mapping(self, node, deep)
        if len(values) < len(node.value):  # 1 and 01
            raise _refusal(node, "a name is given twice")
        return values


def _refusal(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _construct_null(loader: _Loader, node: yaml.ScalarNode) -> None:
    if not _NULL.match(loader.construct_scalar(node)):
        raise _refusal(node, f"'{clipped(node.value, 60)}' is not null")


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node)
    if not _BOOL.match(text):
        raise _refusal(node, f"'{clipped(text, 60)}' is neither true nor false")
    return text.lower() == "true"


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if not _INT.match(text):
        raise _refusal(node, f"'{clipped(text, 60)}' is not a whole number")
    if len(text) > MOST_DIGITS:
        raise _refusal(node, f"a number of {len(text):,} digits")
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    if not _FLOAT.match(text):
        raise _refusal(node, f"'{clipped(text, 60)}' is not a number")
    if len(text) > MOST_DIGITS:
        raise _refusal(node, f"a number of {len(text):,} digits")
    lower = text.lower()
    return float(lower.replace(".", "", 1) if lower.endswith(("inf", "nan")) else text)


def _construct_str(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which :class:`_Loader` would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write shared lists out in full each time."""
        return True


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_add_constructor: Any = _Loader.add_constructor  # the stubs do not know that a loader also constructs
for _name, _construct in {
    "null": _construct_null,
    "bool": _construct_bool,
    "int": _construct_int,
    "float": _construct_float,
    "str": _construct_str,
    "seq": yaml.SafeLoader.construct_yaml_seq,
    "map": yaml.SafeLoader.construct_yaml_map,
}.items():
    _add_constructor(_TAG + _name, _construct)
_add_constructor(None, yaml.SafeLoader.construct_undefined)


@dataclass(frozen=True)
class Given:
    """One option as a user gave it.

    Attributes:
        value: The value as YAML reads it.
        text: The value as it was written (quotes removed); None for Python objects and the mappings of a file.
        source: Where it was given, for messages: "the command line", "a.yaml, line 3", "config_dict".
        problem: Why the text could not be read as YAML and was taken as is; None if it could.
    """

    value: Any
    text: str | None
    source: str
    problem: str | None = None


def parse_value(text: str, source: str) -> Given:
    """Read one value from the command line, or a text from a Python dictionary, as YAML.

    Text that is not YAML, such as the interval ``[5,inf)``, stays text; whether that is allowed is decided by the
    option's types.
    """
    try:
        loader = _Loader(text)
    except yaml.YAMLError:  # a character that YAML does not allow
        return Given(text, text, source, "it has a character that YAML does not allow")
    try:
        root = loader.get_single_node()
        if root is None:
            return Given(None, text, source)
        quoted = isinstance(root, yaml.ScalarNode) and root.style is not None
        return Given(loader.construct_document(root), root.value if quoted else text, source)
    except yaml.YAMLError as error:
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
        return Given(text, text, source, problem or str(error))
    finally:
        loader.dispose()


def load_options(path: str | Path) -> dict[str, Given]:
    """Read a YAML file of options.

    Args:
        path: A file whose top level is a mapping, or that is empty.

    Returns:
        Option name -> value and place, in file order.

    Raises:
        UserError: If the file is missing, too large, not UTF-8 text or not YAML (with line and column), repeats a key
            or is not a mapping at the top level.
    """
    text = _read(path)
    try:
        return _options(text, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: this is not valid YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: this is not valid YAML: {' '.join(str(error).split())}.") from error


def load_values(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of options and return the plain values; raises what :func:`load_options` raises."""
    return {name: given.value for name, given in load_options(path).items()}


def dump_values(values: Any, *, sort_keys: bool = True) -> str:
    """Return YAML that :func:`load_values` reads as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True)


def _read(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # no more, even of a device or a pipe that never ends
        if len(content) > MOST_BYTES:
            raise UserError(
                f"configuration file {path} has more than {MOST_BYTES:,} bytes, too many for a file of options. "
                "Give the YAML file that you meant."
            )
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"configuration file {path} does not exist (looked in {Path.cwd()}).") from error
    except (OSError, ValueError) as error:
        raise UserError(f"configuration file {path} cannot be read: {error}.") from error


def _options(text: str, path: str | Path) -> dict[str, Given]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
            return {}
        if not isinstance(root, yaml.MappingNode) or root.tag != f"{_TAG}map":
            kinds = {yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
            found = kinds.get(type(root), f"a mapping tagged {root.tag}")
            raise UserError(f"{path}: expected lines of the form 'option: value', found {found}.")
        values = loader.construct_document(root)
        nodes = {key.value: (key, node) for key, node in root.value}
    finally:
        loader.dispose()
    given = {}
    for (name, (key, node)), value in zip(nodes.items(), values.values(), strict=True):
        given[name] = Given(value, _written(node, text), f"{path}, line {key.start_mark.line + 1}")
    return given


def _written(node: yaml.Node, text: str) -> str | None:
    """Return a value as written in the file; None for a mapping, which is never meant as text."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.MappingNode):
        return None
    return text[node.start_mark.index : node.end_mark.index]
