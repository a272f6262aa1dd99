"""The paper's ablations as comparisons of LC-Rec with itself: ``--ablation=index`` and ``--ablation=tasks``.

Each is a list of entries as ``--model="LCRec(...) as ...,..."`` would give them; everything else (seeds, processes,
resuming, leaderboard, report) is the comparison's. Options that the user gives hold for every variant. Needs no torch.

index (Sec. III-B; all indices have the same number of tokens per item, and unique paths):

- random: codes without meaning.
- collaborative: spectral clustering of what is bought together (P5-CID), no text.
- semantic without uniform mapping: what spreads the last codes is off in training (Sinkhorn-Knopp, Eq. 6) and
  afterwards; items with the same nearest codes are told apart by a last level that numbers them, as TIGER does. That
  level replaces one of the quantizer's, so that prompts and paths are as long as those of the others.
- semantic: the default.

tasks (Sec. III-C): seqrec alone, then one group of alignment tasks after another on top. Every variant sees the same
samples of the tasks that it shares with the one before, epoch by epoch: an added task adds its own samples, and so
optimizer steps, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.comparison.specs import Entry
from recbole_lcrec.config.layers import kinds_of
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.utils.errors import Mistakes, nearest

MODEL = "LCRec"

_PAPER = {"recipe": "paper"}
"""The paper ablates its own formulation."""

_STEPS = {
    "1 seqrec": ("seqrec",),
    "2 +item-index alignment": ("item2index", "index2item"),
    "3 +asymmetric prediction": ("fusionseqrec",),
    "4 +intention": ("itemsearch",),
    "5 +preference": ("preferenceobtain",),
}
"""Label -> tasks that it adds to those before; numbered, as a leaderboard is ordered by results."""
_FEWEST_LEVELS = 3
"""For the index ablation: without its last level a quantizer must still have two."""


@dataclass(frozen=True)
class Ablation:
    """A comparison with a name.

    Attributes:
        varies: Options that the variants differ in, which a user therefore cannot give.
        entries: Options of all variants -> the variants.
    """

    varies: tuple[str, ...]
    entries: Callable[[Mapping[str, Any]], tuple[Entry, ...]]


def _index(options: Mapping[str, Any]) -> tuple[Entry, ...]:
    without: dict[str, Any] = {"index_mapping": "digit", "num_levels": options["num_levels"] - 1}
    if isinstance(options["codebook_size"], list):
        without["codebook_size"] = options["codebook_size"][:-1]
    return (
        Entry("random", MODEL, {**_PAPER, "quantizer": "random"}),
        Entry("collaborative", MODEL, {**_PAPER, "quantizer": "cid"}),
        Entry("semantic without uniform mapping", MODEL, {**_PAPER, **without, "sinkhorn_iterations": 0}),
        Entry("semantic", MODEL, _PAPER),
    )


def _tasks(options: Mapping[str, Any]) -> tuple[Entry, ...]:
    tasks: list[str] = []
    entries = []
    for label, added in _STEPS.items():
        tasks += added
        entries.append(Entry(label, MODEL, {**_PAPER, "tasks": list(tasks)}))
    return tuple(entries)


ABLATIONS = {
    "index": Ablation(("quantizer", "index_mapping", "index_file", "sinkhorn_iterations"), _index),
    "tasks": Ablation(("tasks",), _tasks),
}


def parse_ablation(
    name: str, model: str | None, dataset: str | None, given: Mapping[str, Any], reading: Reading
) -> tuple[Entry, ...]:
    """Return the variants of an ablation; every mistake goes to ``reading``.

    Args:
        name: Option ``ablation``.
        model: Option ``model``; None stands for LCRec.
        dataset: Option ``dataset``, whose own settings may change an option.
        given: Checked options of the files and of the command line.
        reading: Collects the mistakes.
    """
    if name not in ABLATIONS:
        known = " or ".join(ABLATIONS)
        reading.add(f"option ablation is {name}; expected {known}.{nearest(str(name), ABLATIONS)}")
        return ()
    mistakes = Mistakes()
    if model not in (None, MODEL):
        mistakes.add(
            f"option ablation: model is {model}, but the ablations are those of {MODEL}. Use --model={MODEL}, or "
            "leave it out; give options of all variants as --name=value."
        )
    if given.get("recipe") == "scratch":
        mistakes.add(
            "option ablation: recipe is scratch; the paper's ablations are those of recipe=paper. Take it out."
        )
    ablation = ABLATIONS[name]
    for option in ablation.varies:
        if option in given:
            mistakes.add(
                f"option ablation: {option} is what --ablation={name} varies, so it cannot be given. Take it out."
            )
    options = {**_defaults(dataset), **given}
    levels = options["num_levels"]
    if name == "index" and (levels is None or levels < _FEWEST_LEVELS):
        mistakes.add(
            f"option ablation: num_levels is {'~' if levels is None else levels}; --ablation=index needs "
            f"{_FEWEST_LEVELS} or more, as a variant uses the last level to number the items of a path."
        )
    mistakes.tell(reading)
    return () if mistakes.failed else ablation.entries(options)


def _defaults(dataset: str | None) -> dict[str, Any]:
    """Return LCRec's options of the index under recipe=paper, among others; ``base_model`` changes none of them."""
    folder = properties_dir()
    files = [*kinds_of(MODEL), folder / "model" / f"{MODEL}.yaml", folder / "dataset" / f"{dataset}.yaml"]
    return {name: value for path in files if path.is_file() for name, value in load_values(path).items()}
