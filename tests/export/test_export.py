"""An export recommends what its run does, in a process that has neither this package nor RecBole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from export_helpers import KINDS, Histories, recommended_alone
from fakes import save_checkpoint, write_dataset

from recbole_lcrec.experiment import load_experiment, run
from recbole_lcrec.export import exporting

HISTORIES: Histories = [
    ["i3"],
    ["i3", "i4", "i5"],
    ["i9", "i9", "i2"],
    [f"i{n}" for n in range(25)],  # more than MAX_ITEM_LIST_LENGTH
]
PLACES = (5, 40)
"""Fewer items than beams, and more than the catalogue has: the whole ranking."""
TIE = 1e-5


@dataclass(frozen=True)
class Exports:
    """Exports of all kinds.

    Attributes:
        root: Folder of the data set.
        runs: Kind -> folder of its run.
        folders: Kind -> folder of its export.
        expected: (kind, k) -> items and scores of the run.
        found: (kind, k) -> items of the export's script.
    """

    root: Path
    runs: dict[str, Path]
    folders: dict[str, Path]
    expected: dict[tuple[str, int], tuple[Histories, list[list[float]]]]
    found: dict[tuple[str, int], Histories]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    root = write_dataset(tmp_path_factory.mktemp("exports"))
    bases = {kind: str(save_checkpoint(root / kind, kind)) for kind in ("qwen2", "llama")}
    runs: dict[str, Path] = {}
    folders, expected = {}, {}
    for number, (name, kind) in enumerate(KINDS.items()):
        places: dict[str, Any] = {"data_path": str(root), "cache_dir": str(root / "cache")}
        places |= {"base_model": bases[kind.base]} if kind.base else {}
        same = next((n for n in runs if (KINDS[n].options, KINDS[n].base) == (kind.options, kind.base)
                     and KINDS[n].model == kind.model), None)  # fmt: skip
        runs[name] = runs[same] if same else root / f"run{number}"
        if not same:
            run(kind.model, "toy", {**kind.options, **places, "output_dir": str(runs[name])})
        folders[name] = exporting.export(runs[name], root / f"export{number}", lora=kind.lora, cli=kind.changes)
        experiment = load_experiment(runs[name], kind.changes)
        for k in PLACES:
            expected[name, k] = experiment.recommend(HISTORIES, k)
    moved = {name: folder.rename(folder.with_name(f"{folder.name} moved")) for name, folder in folders.items()}
    asked = list(expected)
    lists = recommended_alone([(moved[name], HISTORIES, k) for name, k in asked], root)
    return Exports(root, runs, moved, expected, dict(zip(asked, lists, strict=True)))


@pytest.mark.parametrize("k", PLACES)
@pytest.mark.parametrize("name", KINDS)
def test_the_script_recommends_what_the_run_does(exports: Exports, name: str, k: int) -> None:
    for found, items, scores in zip(exports.found[name, k], *exports.expected[name, k], strict=True):
        score_of = dict(zip(items, scores, strict=True))
        assert len(found) == len(items) == len(set(found))
        for one, other, score in zip(found, items, scores, strict=True):
            assert one == other or abs(score_of.get(one, scores[-1]) - score) < TIE, (found, items)
