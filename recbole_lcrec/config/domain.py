"""What values an option takes: the declaration in brackets before its text, read and applied.

    (int >= 1 or None)    (float in [0, 1))    (str: full | lora)    (list of int >= 1)    (dict of {int or None})

Types are ``bool``, ``int``, ``float``, ``str``, ``list``, ``dict`` and ``None``. Four kinds of text have checks of
their own: ``word`` (case-insensitive), ``name`` (not empty), ``path`` (a file or folder) and ``interval`` (RecBole's
``[5,inf)``). A number alone (``-1``) is a value allowed outside the range. Numbers are finite, and those without an
upper bound are at most :data:`HUGE`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recbole_lcrec.config import intervals

HUGE = 10**9
"""No option needs more of anything; larger numbers are typos that would fill memory or never finish."""
LONGEST_TEXT = 65_536
LONGEST_PATH = 4_000
_LONGEST_NAME = 255
_MOST_ENTRIES = 10_000

_NUMBER = r"[-+]?[\d.]+(?:e[-+]?\d+)?"
_ONE = re.compile(
    rf"""(?P<kind>bool|int|float|string|str|word|name|path|interval|list|dict|none)
    (?:\s+of\s+(?P<element>.+)
    |\s*(?P<sign>>=|>)\s*(?P<above>{_NUMBER})
    |\s+in\s+(?P<left>[\[(])(?P<low>{_NUMBER}),\s*(?P<high>{_NUMBER})(?P<right>[\])])
    |\s*:\s*(?P<choices>.+)
    )?""",
    re.X | re.I,
)
_OR = re.compile(r"\s+or\s+(?![^{]*\})")
_LITERAL = re.compile(_NUMBER)
_DECLARATION = re.compile(r"^\((?P<declaration>(?:[^()\[\]]|[\[(][^()\[\]]*[\])])*)\)\s*(?P<text>.*)$")
_TYPES = {"string": "str", "word": "str", "name": "str", "path": "str", "interval": "str", "none": "None"}


@dataclass(frozen=True)
class Kind:
    """One of the alternatives of a declaration.

    Attributes:
        kind: A type, or a kind of text.
        low: The lowest number allowed; ``high`` is the highest.
        above: Whether ``low`` itself is excluded; likewise ``below`` for ``high``.
        choices: The texts allowed; empty for any.
        element: Domain of a list's entries or a dictionary's values; None for anything.
    """

    kind: str
    low: float = -HUGE
    high: float = HUGE
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    element: Domain | None = None

    @property
    def type(self) -> str:
        """The type, as :func:`recbole_lcrec.config.options.type_name` names it."""
        return _TYPES.get(self.kind, self.kind)

    def words(self, *, several: bool = False) -> str:
        """Say in words what is allowed, for "expected ..."."""
        if self.choices:
            return _either(self.choices)
        if self.kind in ("int", "float"):
            noun = ("whole numbers" if several else "a whole number") if self.kind == "int" else (
                "numbers" if several else "a number"
            )  # fmt: skip
            return noun + self._range_words()
        if self.element is not None:
            inner = self.element.words(several=True)
            return f"a list of {inner}" if self.kind == "list" else f"a mapping of names to {inner}"
        plain, plural = {
            "bool": ("True or False", "True or False"),
            "interval": ("an interval such as '[5,inf)'", "intervals such as '[5,inf)'"),
            "path": ("the path of a file or folder", "paths"),
            "name": ("non-empty text", "non-empty texts"),
            "list": ("a list", "lists"),
            "dict": ("a mapping", "mappings"),
            "none": ("None", "None"),
        }.get(self.kind, ("text", "texts"))
        return plural if several else plain

    def _range_words(self) -> str:
        low = f" above {self.low:g}" if self.above else f" of {self.low:g} or more"
        if self.high == HUGE:
            return "" if self.low == -HUGE else low
        if not self.above and not self.below:
            return f" from {self.low:,.10g} to {self.high:,.10g}"
        high = f" below {self.high:,.10g}" if self.below else f" of at most {self.high:,.10g}"
        return f"{low if self.above else f' of {self.low:g} or more'} and{high}"

    def problem(self, value: Any) -> str | None:
        """Return why a value of this type is not allowed ("" where the expectation says it all), or None."""
        if self.kind in ("int", "float"):
            return self._number_problem(value)
        if self.kind in ("list", "dict"):
            return self._inner_problem(value)
        if self.type == "str":
            return self._text_problem(value)
        return None

    def _number_problem(self, value: float) -> str | None:
        fits = self.low < value if self.above else self.low <= value
        fits = fits and (value < self.high if self.below else value <= self.high)
        return None if fits else ("" if math.isfinite(value) and abs(value) <= HUGE else f"at most {HUGE:,}")

    def _inner_problem(self, value: Any) -> str | None:
        if self.element is None:
            return None
        entries = value.items() if isinstance(value, dict) else enumerate(value, start=1)
        for name, entry in entries:
            if (problem := self.element.problem(entry)) is not None:
                where = f"'{name}'" if isinstance(value, dict) else f"entry {name}"
                return f"{where} is {_shown(entry)}{f', {problem}' if problem else ''}"
        return None

    def _text_problem(self, value: str) -> str | None:
        known = [choice.lower() for choice in self.choices] if self.kind == "word" else self.choices
        if known and (value.lower() if self.kind == "word" else value) not in known:
            return ""
        if self.kind == "interval":
            return intervals.problem(value)
        if self.kind == "name" and not value:
            return ""
        return path_problem(value) if self.kind == "path" else None


@dataclass(frozen=True)
class Domain:
    """The values of an option.

    Attributes:
        kinds: The alternatives.
        literals: Numbers that are allowed outside their ranges.
    """

    kinds: tuple[Kind, ...]
    literals: tuple[float, ...] = ()

    @property
    def types(self) -> frozenset[str]:
        """The types of the alternatives."""
        return frozenset(kind.type for kind in self.kinds)

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts among the values, where they can be listed."""
        return tuple(choice for kind in self.kinds for choice in kind.choices)

    def words(self, *, several: bool = False) -> str:
        """Say in words what is allowed, for "expected ..."."""
        parts = [f"{literal:g}" for literal in self.literals]
        return " or ".join([*parts, *(kind.words(several=several) for kind in self.kinds)])

    def problem(self, value: Any) -> str | None:
        """Return why a value is not allowed ("" where :meth:`words` says it all); None if it is."""
        if value in self.literals and not isinstance(value, bool):
            return None
        found = [kind.problem(value) for kind in self.kinds if _fits(kind.type, value)]
        if not found:
            return ""
        return None if None in found else found[0]


def _fits(kind: str, value: Any) -> bool:
    """Return whether a value has a type; whole numbers also fit float, True fits bool only."""
    if kind == "None":
        return value is None
    if isinstance(value, bool):
        return kind == "bool"
    python: Any = {"int": int, "float": (int, float), "str": str, "list": list, "dict": dict, "bool": bool}[kind]
    return isinstance(value, python)


def parse_declaration(text: str) -> Domain | None:
    """Return the domain of a declaration without its brackets; None for text that is not one (RecBole's comments)."""
    kinds: list[Kind] = []
    literals: list[float] = []
    for part in _OR.split(text.strip()):
        if _LITERAL.fullmatch(part):
            literals.append(float(part))
            continue
        found = _ONE.fullmatch(part)
        if found is None:
            return None
        kind = {"string": "str"}.get(found["kind"].lower(), found["kind"].lower())
        one = Kind(kind)
        if found["element"]:
            inner = found["element"]
            one = replace(one, element=parse_declaration(inner[1:-1] if inner.startswith("{") else inner))
            if one.element is None:
                return None
        elif found["sign"]:
            one = replace(one, low=float(found["above"]), above=found["sign"] == ">")
        elif found["left"]:
            one = replace(
                one, low=float(found["low"]), high=float(found["high"]),
                above=found["left"] == "(", below=found["right"] == ")",
            )  # fmt: skip
        elif found["choices"]:
            one = replace(one, choices=tuple(choice.strip() for choice in found["choices"].split("|")))
        kinds.append(one)
    return Domain(tuple(kinds), tuple(literals))


def split_comment(comment: str) -> tuple[str | None, str]:
    """Return the declaration of a comment such as ``(int >= 1) Text.``, without brackets, and its text."""
    found = _DECLARATION.match(comment.strip())
    return (found["declaration"], found["text"].strip()) if found else (None, comment.strip())


def bounds_problem(value: Any) -> str | None:
    """Return why no option takes a value (non-finite or absurd numbers, unreadable text, endless lists), or None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "which is not a finite number"
    if isinstance(value, (int, float)) and abs(value) > 2**63:
        return "which is too large"
    if isinstance(value, str):
        return _unreadable(value)
    if isinstance(value, (list, tuple, dict)):
        if len(value) > _MOST_ENTRIES:
            return f"which has {len(value):,} entries; at most {_MOST_ENTRIES:,} are read"
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return next((problem for part in parts if (problem := bounds_problem(part)) is not None), None)
    return None


def _unreadable(text: str) -> str | None:
    if len(text) > LONGEST_TEXT:
        return f"which has {len(text):,} characters; at most {LONGEST_TEXT:,} are read"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "which is not text in UTF-8"
    return "which has a NUL character" if "\0" in text else None


def path_problem(text: str) -> str | None:
    """Return why no file can have this path; None if one can."""
    if len(text) > LONGEST_PATH:
        return f"a path of {len(text):,} characters; at most {LONGEST_PATH:,} are read"
    longest = max((part.encode("utf-8", "surrogatepass") for part in text.split("/")), key=len)
    if len(longest) > _LONGEST_NAME:
        return f"a name of {len(longest):,} bytes; file systems allow {_LONGEST_NAME}"
    return None


def _either(choices: Sequence[str]) -> str:
    shown = [choice or "''" for choice in choices]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
