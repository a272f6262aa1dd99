"""The house: which room may know which, what importing costs, and how long a function or a file may get."""

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "recbole_lcrec"

ROOMS = (
    *("version", "utils", "pages", "distributed", "config", "data", "embedding", "quantizer", "index", "usertext"),
    *("decoding", "instruction", "evaluation", "model", "training", "experiment", "export", "recommending"),
    "serving",
    *("tuning", "comparison", "benchmarks", "convert"),
    *("cli", "__main__", "__init__"),
)
"""From the ground up: a room imports those before it. Tuning, comparison, benchmarks and convert are neighbours."""
NEIGHBOURS = {"tuning", "comparison", "benchmarks", "convert"}
LONGEST_FUNCTION, LONGEST_FILE = 60, 400
MOST_NAMESAKES = 2
"""Folders that may have a module of one name."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a file imports anywhere, inside functions and for types included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name in MODULES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


GRAPH = {name: imported(path) - {name} for name, path in MODULES.items()}


def test_every_room_imports_only_rooms_below_it() -> None:
    assert {room(name) for name in MODULES} == set(ROOMS)
    wrong = [
        f"{user} imports {used}"
        for user, all_used in GRAPH.items()
        for used in all_used
        if room(user) != room(used)
        and (ROOMS.index(room(used)) > ROOMS.index(room(user)) or {room(user), room(used)} <= NEIGHBOURS)
        and used != "recbole_lcrec"
    ]
    assert wrong == []


def test_no_module_imports_itself_through_others_lazily_or_not() -> None:
    inside = {name: used - {"recbole_lcrec"} for name, used in GRAPH.items() if name != "recbole_lcrec"}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_the_command_line_reads_first_is_light() -> None:
    code = (
        "import sys, recbole_lcrec.cli.main, recbole_lcrec.config.registry, recbole_lcrec.config.reading;"
        "print([m for m in ('torch', 'recbole', 'ray', 'transformers', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_name_says_what_it_is_about() -> None:
    classes: dict[str, list[str]] = defaultdict(list)
    modules: dict[str, list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        if not path.stem.startswith("__"):
            modules[path.stem].append(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(name)
    assert {name: where for name, where in classes.items() if len(where) > 1} == {}, "one class of a name"
    assert {name: where for name, where in modules.items() if len(where) > MOST_NAMESAKES} == {}


def test_functions_and_files_stay_short() -> None:
    long = []
    for name, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        if (lines := source.count("\n")) > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{name}.{node.name}: {length} lines")
    assert long == []
