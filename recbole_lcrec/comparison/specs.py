"""What is compared: models, each with options and a name of its own where it needs them. Read without torch.

    Pop,SASRec,LCRec
    SASRec(loss_type=CE),SASRec(loss_type=BPR) as SASRec with BPR,LCRec(epochs=30, num_beams=50)

An entry is ``Model``, ``Model(option=value, option=value)`` or either with `` as label``. Values are YAML, as on the
command line. Without a label, an entry is called what was written of it, or by its model if that is long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_lcrec.config.loader import Given, parse_value
from recbole_lcrec.config.names import check_model
from recbole_lcrec.config.options import Reading
from recbole_lcrec.errors import UserError

_ENTRY = re.compile(r"(?P<model>\w+)\s*(?:\((?P<options>.*)\))?\s*(?:\bas\s+(?P<label>[^(),]+))?", re.DOTALL)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_OF_THE_WHOLE = (
    *("model", "dataset", "data_path", "output_dir", "cache_dir", "seed", "seeds", "jobs", "metrics", "topk"),
    *("valid_metric", "eval_args", "config_files", "evaluate", "stage", "benchmark_filename"),
    *("ablation", "exclude_history"),
)
"""Options that must be the same for all that is compared, so no entry may have one of its own."""
_LONGEST = 40
"""Characters of an entry that are still a label."""


@dataclass(frozen=True)
class Entry:
    """One row of the leaderboard.

    Attributes:
        label: Its name in every output.
        model: Name of the model.
        options: Checked options of its own; they win over those of the whole comparison.
    """

    label: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The label as part of a folder's name."""
        return re.sub(r"[^\w.=+-]+", "-", self.label).strip("-.") or "model"


def is_comparison(options: Mapping[str, Any]) -> bool:
    """Return whether options ask for a comparison: several models, one with options, seeds, or an ablation."""
    model = options.get("model")
    if options.get("ablation") is not None:
        return True
    return options.get("seeds") is not None or (isinstance(model, str) and bool(re.search(r"[,(]", model)))


def parse_entries(text: str, reading: Reading) -> tuple[Entry, ...]:
    """Read option ``model`` of a comparison; every mistake goes to ``reading``."""
    entries: list[Entry] = []
    for part in _split(text):
        found = _ENTRY.fullmatch(part)
        if found is None:
            reading.add(
                f"option model: cannot read '{part}' in {text}; expected Model, Model(option=value, ...) or either "
                "followed by ' as label'"
            )
            continue
        model = found["model"]
        try:
            check_model(model)
        except UserError as error:
            reading.add(str(error))
        label = " ".join((found["label"] or (part if len(part) <= _LONGEST else model)).split())
        entries.append(Entry(label, model, _options(found["options"] or "", label, reading)))
    _check_labels(entries, reading)
    return tuple(entries)


def parse_seeds(value: Any, default: int, reading: Reading) -> tuple[int, ...]:
    """Read option ``seeds``: "1,2,3", a list or a number; without it, there is one run with ``seed``."""
    if value is None:
        return (default,)
    values = parse_value(f"[{value}]", "").value if isinstance(value, str) else value
    seeds = values if isinstance(values, list) else [values]
    right = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not right or len(set(seeds)) < len(seeds):
        reading.add(f"option seeds is {value}; expected different whole numbers from 0, such as 1,2,3")
        return (default,)
    return tuple(seeds)


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets and quotes."""
    parts, closing, quote = [""], [], ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _PAIRS:
            closing.append(_PAIRS[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char == "," and not closing:
            parts.append("")
            continue
        parts[-1] += char
    return [part.strip() for part in parts]


def _options(text: str, label: str, reading: Reading) -> dict[str, Any]:
    given: dict[str, Given] = {}
    source = f"option model, {label}"
    for part in _split(text) if text.strip() else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            reading.add(f"{source}: cannot read '{part}'; expected option=value")
        elif name in _OF_THE_WHOLE:
            reading.add(f"{source}: option {name} belongs to the whole comparison; give it as --{name}=...")
        elif name in given:
            reading.add(f"{source}: option {name} is given twice")
        else:
            given[name] = parse_value(value, source)
    return reading.checked(given)


def _check_labels(entries: Sequence[Entry], reading: Reading) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        other = seen.setdefault(entry.folder.lower(), entry.label)
        if other is not entry.label:
            reading.add(
                f"option model: {other} and {entry.label} would have the same name. Give one a label, as in "
                f"'{entry.label} as {entry.model}-2'"
            )
