"""Every option with every kind of value, generated from the declarations: read, or refused in one message.

Reading is what command line, files, Python callers, search spaces and comparisons share; nothing here needs torch.
"""

from __future__ import annotations

import itertools
import math
import random
import string
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.config.domain import HUGE, Kind, bounds_problem, parse_declaration
from recbole_lcrec.config.loader import Given, dump_values, parse_value
from recbole_lcrec.config.options import check, find_option, source_names, yaml_options
from recbole_lcrec.config.reading import Reading, read_arguments
from recbole_lcrec.config.recbole_options import INSTEAD, recbole_declarations
from recbole_lcrec.utils.errors import UserError

NAMES = sorted((set(yaml_options()) | source_names()) - set(INSTEAD))
LAUGHS = [f"&{b} [{','.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghi")]
WRITTEN = [
    *("0", "-1", "1", "2", "1.5", "-0.5", "1e-3", "1e9", "1e400", "-1e400", "9" * 40, "9" * 5000, ".inf", "-.inf"),
    *(".nan", "", "~", "None", "null", "True", "false", "on", "yes", "1:30", "010", "0o17", "0x1F", "1_000", "text"),
    *("a: b", "'", "[]", "[0]", "[-1]", "[1, 2]", "[a, b]", "[[1]]", "[~]", "[.nan]", "{}", "{a: 1}", "{a: [1]}"),
    *("{a: {b: ~}}", "{1: 2}", "[" * 40, "{a: " * 40, "&a [*a]", "*a", "!!int x", "!!set {a}", "!x y", "%", "@", "`"),
    *("!!python/name:os.system x", "é", "天気", "\x07", "\x1b[31m", "\udce9", "x" * 300, "x/" * 3000, "x" * 7_000),
    *("../..", "/dev/null", "[5,inf)", "[3-5]", f"[&a [1,1], {', '.join(LAUGHS)}]"),
]
OBJECTS: list[Any] = [
    *(None, 0, -1, 10**30, 10**5000, 0.0, math.nan, math.inf, True, "", "x", b"x", 1j, object(), int, [], {}, set()),
    *((1, 2), [None], [math.nan], [10**400], [object()], {"a": None}, {"a": object()}, {None: 1}, {(1, 2): 3}),
    *(Path("x"), [Path("x")], "\0", "\ud800", "x" * 70_000, list(range(20_000)), range(3), iter([1])),
]


def itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def refused(error: UserError) -> bool:
    message = str(error)
    return "option" in message and len(message) < 2000 and "\n" not in message


PARSED = [parse_value(text, "the command line") for text in WRITTEN]


@pytest.mark.parametrize("name", NAMES)
def test_no_value_of_any_option_ends_in_a_traceback(name: str) -> None:
    for given in [*PARSED, *(Given(value, None, "config_dict") for value in [*OBJECTS, itself()])]:
        try:
            found = check(name, given)
        except UserError as error:
            assert refused(error) or "deep in each other" in str(error)
            continue
        assert bounds_problem(found) is None
        assert check(name, Given(found, None, "again")) == found


def test_what_is_read_can_be_written_and_read_again(tmp_path: Path) -> None:
    for number, given in enumerate(PARSED):
        path = tmp_path / f"{number}.yaml"
        accepted = {}
        for name in sorted({*NAMES} - {"plugins"}):  # what it names is loaded
            reading = Reading()
            accepted |= reading.checked({name: given})
        path.write_text(dump_values(accepted), encoding="utf-8")
        reading = Reading()
        assert reading.file(path) == accepted
        reading.finish()


def outside(kind: Kind) -> list[Any]:
    """Return values of the right type that a kind does not take."""
    values: list[Any] = []
    if kind.kind in ("int", "float"):
        values = [10 * HUGE, -10 * HUGE, math.nan, math.inf]
        values += [] if kind.low == -HUGE else [kind.low if kind.above else kind.low - 1]
        values += [] if kind.high == HUGE else [kind.high if kind.below else kind.high + 1]
        values = [int(v) if kind.kind == "int" and math.isfinite(v) else v for v in values]
    elif kind.element is not None:
        inner = [v for one in kind.element.kinds for v in outside(one)]
        values = [[v] if kind.kind == "list" else {"a": v} for v in inner]
    elif kind.choices:
        values = ["nothing like it", ""] if "" not in kind.choices else ["nothing like it"]
    elif kind.kind == "name":
        values = [""]
    elif kind.kind == "interval":
        values = ["", "5", "[5]", "[a,b]", "[3-5]", "[5,1]", "[nan,1]", "5,6", "[1,2];x"]
    elif kind.kind == "path":
        values = ["x" * 256, "a/" * 2100]
    return values


@pytest.mark.parametrize("name", [name for name in NAMES if name in yaml_options() and find_option(name).domain])
def test_values_outside_of_a_declaration_are_refused_with_it(name: str) -> None:
    domain = find_option(name).domain
    assert domain is not None
    for kind in domain.kinds:
        for value in outside(kind):
            if domain.problem(value) is None:
                continue  # another alternative takes it
            with pytest.raises(UserError) as error:
                check(name, Given(value, None, "config_dict"))
            assert f"option {name} is" in str(error.value)


def test_every_option_has_a_declaration_or_is_refused() -> None:
    assert set(recbole_declarations()) <= source_names() | set(yaml_options())
    assert {name for name, option in yaml_options().items() if option.domain is None} <= set(INSTEAD)


@pytest.mark.parametrize(
    ("declaration", "right", "wrong", "words"),
    [
        (
            "int >= 1 or None",
            [1, 7, None, HUGE],
            [0, -1, HUGE + 1, True, "1", 1.5],
            "a whole number of 1 or more or None",
        ),
        ("float in [0, 1)", [0, 0.5], [1, -0.1, True], "a number of 0 or more and below 1"),
        ("float > 0", [1e-9, 3], [0, -1], "a number above 0"),
        ("int in [2, 8]", [2, 8], [1, 9], "a whole number from 2 to 8"),
        ("-1 or int >= 1", [-1, 1], [0, -2, True], "-1 or a whole number of 1 or more"),
        ("str: full | lora", ["full"], ["Full", "", 1], "full or lora"),
        ("word: adam | sgd", ["Adam", "SGD"], ["adams"], "adam or sgd"),
        ("list of int >= 1", [[], [1, 2]], [[0], ["a"], [True], [None], 1], "a list of whole numbers of 1 or more"),
        ("dict of {int >= 1 or None}", [{}, {"a": 1, "b": None}], [{"a": 0}, {"a": "x"}], "a mapping of names to"),
        ("interval", ["[5,inf)", "(0,1];[3,4)", "[ 1 , 2 ]"], ["[5,)", "5", "[x,1]", "[2,1]"], "an interval such as"),
        ("name", ["a"], [""], "non-empty text"),
        ("bool", [True], [1, "True"], "True or False"),
    ],
)
def test_declarations(declaration: str, right: list[Any], wrong: list[Any], words: str) -> None:
    domain = parse_declaration(declaration)
    assert domain is not None and domain.words().startswith(words)
    assert [value for value in right if domain.problem(value) is not None] == []
    assert [value for value in wrong if domain.problem(value) is None] == []


def test_random_texts_end_in_a_value_or_a_message() -> None:
    draw = random.Random(0)
    alphabet = string.printable + "[]{}&*!:,'\"|>%@`#-~é\ud800"
    for _ in range(200):
        reading = Reading()
        text = "".join(draw.choices(alphabet, k=draw.randrange(1, 12)))
        reading.checked(read_arguments([f"--{draw.choice(NAMES)}={text}", f"--{text}"], reading))
        assert reading.failed  # an option of that name does not exist
        with pytest.raises(UserError):
            reading.finish()
