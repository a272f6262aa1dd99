"""What is compared: models, each with options and a name of its own where it needs them. Read without torch.

    Pop,SASRec,LCRec
    SASRec(loss_type=CE),SASRec(loss_type=BPR) as SASRec with BPR,LCRec(epochs=30, num_beams=50)

An entry is ``Model``, ``Model(option=value, option=value)`` or either with `` as label``. Values are YAML, as on the
command line. Without a label, an entry is named by its text, or by its model if that is long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_lcrec.config.loader import Given, parse_value
from recbole_lcrec.config.names import check_model
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.utils.errors import UserError

_ENTRY = re.compile(r"(?P<model>\w+)\s*(?:\((?P<options>.*)\))?\s*(?:\bas\s+(?P<label>[^(),]+))?", re.DOTALL)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_OF_THE_WHOLE = (
    *("model", "dataset", "data_path", "output_dir", "cache_dir", "seed", "seeds", "jobs", "metrics", "topk"),
    *("valid_metric", "eval_args", "config_files", "evaluate", "stage", "benchmark_filename"),
    *("ablation", "exclude_history", "address", "cpus_per_run", "gpus_per_run"),
)
"""Options that must be the same for all that is compared, so no entry may have one of its own."""
_LONGEST = 40
"""Most characters of an entry that serve as its label."""


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


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster for the runs of a comparison.

    Attributes:
        address: Of its head, or ``auto``.
        cpus: CPUs of a run, which are also its threads.
        gpus: GPUs of a run, or the fraction of one; None for one if a machine has any.
    """

    address: str
    cpus: float = 1.0
    gpus: float | None = None


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


def parse_jobs(value: int | None, cluster: Cluster | None) -> int | None:
    """Read option ``jobs``: runs at once; None for as many as a cluster has room for."""
    return 1 if value is None and cluster is None else value


def parse_cluster(options: Mapping[str, Any], reading: Reading) -> Cluster | None:
    """Read where the runs of a comparison are carried out; None for this machine. Mistakes go to ``reading``."""
    address, cpus, gpus = (options.get(name) for name in ("address", "cpus_per_run", "gpus_per_run"))
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        reading.add(f"option gpus_per_run is {gpus}; expected a part of one GPU (such as 0.5) or a whole number")
    if address is None:
        for name in ("cpus_per_run", "gpus_per_run"):
            if options.get(name) is not None:
                reading.add(
                    f"option {name} is {options[name]}, but there is no cluster: it goes with --address. Without one, "
                    "jobs says how many runs share the machine"
                )
        return None
    if str(options.get("gpu_id") or "0") != "0":
        reading.add(
            f"option gpu_id is {options['gpu_id']}, but with address Ray gives the runs their GPUs. Set "
            "CUDA_VISIBLE_DEVICES for ray start on each machine"
        )
    return Cluster(address, 1.0 if cpus is None else cpus, gpus)


def refuse_cluster(options: Mapping[str, Any], reason: str, reading: Reading, *, searching: bool = False) -> None:
    """Add the options of a comparison's cluster to the mistakes.

    Args:
        options: What was given.
        reason: Why they have no effect.
        reading: Collects the mistakes.
        searching: Whether it is a search, which may be given an address.
    """
    for name in ("cpus_per_run", "gpus_per_run") if searching else ("address", "cpus_per_run", "gpus_per_run"):
        if options.get(name) is not None:
            reading.add(f"option {name} is {options[name]}, but {reason}")


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes."""
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
