"""Reading YAML: files, and the values of the command line, each with the place it came from.

RecBole adds its float resolver to ``yaml.FullLoader`` itself, which changes every other user of PyYAML in the process,
and evaluates command-line values as Python. Here a private loader reads both, and nothing is ever evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_lcrec.errors import UserError

# RecBole's own pattern: unlike YAML 1.1 it reads 1e-3 as a number.
_FLOAT = re.compile(
    r"""^(?:
     [-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |\.[0-9_]+(?:[eE][-+][0-9]+)?
    |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, dates as text and ``None`` as null, and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking that no key is written twice and none swallowed its value."""
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
            if key.style is None and ":" in key.value and value.start_mark.index == value.end_mark.index:
                raise yaml.constructor.ConstructorError(
                    None, None, f"a blank is missing after ':' in '{key.value}'", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])  # as RecBole's users write it


@dataclass(frozen=True)
class Given:
    """One option as a user gave it.

    Attributes:
        value: The value as YAML reads it.
        text: The value as it was written (quotes removed); None for Python objects and the mappings of a file.
        source: Where it was given, for messages: "the command line", "a.yaml, line 3", "config_dict".
        problem: Why the text could not be read as YAML, and was taken as it is; None when it could.
    """

    value: Any
    text: str | None
    source: str
    problem: str | None = None


def parse_value(text: str, source: str) -> Given:
    """Read one value of the command line, or of a text in a Python dictionary, as YAML.

    Text that is no YAML, such as the interval ``[5,inf)``, stays text; whether that is allowed is decided by the
    option's types.
    """
    loader = _Loader(text)
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
        UserError: If the file is missing, is no UTF-8 text, is no YAML (with line and column), repeats a key or is not
            a mapping at the top level.
    """
    text = _read(path)
    try:
        return _options(text, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: this is not valid YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: this is not valid YAML: {error}.") from error


def load_values(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of options and return the plain values; the Raises are those of :func:`load_options`."""
    return {name: given.value for name, given in load_options(path).items()}


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"configuration file {path} does not exist (looked in {Path.cwd()}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"configuration file {path} cannot be read: {error}.") from error


def _options(text: str, path: str | Path) -> dict[str, Given]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            found = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise UserError(f"{path}: expected lines of the form 'option: value', found {found}.")
        values = loader.construct_document(root)
        nodes = {key.value: (key, node) for key, node in root.value if isinstance(key, yaml.ScalarNode)}
    finally:
        loader.dispose()
    given = {}
    for name, value in values.items():
        key, node = nodes.get(str(name), (root, root))
        written = _written(node, text)
        given[str(name)] = Given(value, written, f"{path}, line {key.start_mark.line + 1}")
    return given


def _written(node: yaml.Node, text: str) -> str | None:
    """Return a value as it stands in the file; None for a mapping, which no text-typed option can mean."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.MappingNode):
        return None
    return text[node.start_mark.index : node.end_mark.index]
