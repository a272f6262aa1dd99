"""Ablations: which variants they compare, what cannot be given with them, and that they run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.cli import main as cli
from recbole_lcrec.comparison.plan import make_plan

TASKS = ["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]


def test_variants_of_the_index() -> None:
    command = cli.parse(["--ablation=index", "--dataset=ml-100k", "--seeds=1,2", "--epochs=3", "--jobs=2"])
    assert [(entry.label, entry.model, dict(entry.options)) for entry in command.entries] == [
        ("random", "LCRec", {"recipe": "paper", "quantizer": "random"}),
        ("collaborative", "LCRec", {"recipe": "paper", "quantizer": "cid"}),
        (
            "semantic without uniform mapping",
            "LCRec",
            {"recipe": "paper", "index_mapping": "digit", "num_levels": 3, "sinkhorn_iterations": 0},
        ),
        ("semantic", "LCRec", {"recipe": "paper"}),
    ]
    assert command.options == {"epochs": 3} and command.seeds == (1, 2) and command.jobs == 2


def test_the_index_of_every_variant_has_as_many_tokens_per_item(tmp_path: Path) -> None:
    argv = ["--ablation=index", "--model=LCRec", "--dataset=ml-100k", "--num_levels=5"]
    command = cli.parse([*argv, "--codebook_size=[64,32,16,16,8]"])
    without = command.entries[2].options
    assert without["num_levels"] == 4 and without["codebook_size"] == [64, 32, 16, 16]
    plan = make_plan("ml-100k", command.entries, (1,), {**command.options, "output_dir": str(tmp_path / "out")}, 1)
    from recbole_lcrec.config import settings_from
    from recbole_lcrec.index.build import index_level_sizes
    from recbole_lcrec.quantizer import QuantizerSettings

    sizes = [
        index_level_sizes(settings_from(QuantizerSettings, resolved), resolved["index_mapping"])
        for resolved in (dict(run.stages[0].resolved) for run in plan.runs)
    ]
    assert sizes == [(64, 32, 16, 16, 8)] * 2 + [(64, 32, 16, 16, 16)] + [(64, 32, 16, 16, 8)]


def test_variants_of_the_tasks_grow(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("ablation: tasks\ndataset: ml-100k\ntask_samples: {seqrec: 9}\n")
    command = cli.parse([f"--config_files={file}"])
    found = [(entry.label, entry.options["tasks"]) for entry in command.entries]
    labels = ["1 seqrec", "2 +item-index alignment", "3 +asymmetric prediction", "4 +intention", "5 +preference"]
    assert found == [(label, TASKS[:n]) for label, n in zip(labels, (1, 3, 4, 5, 6), strict=True)]
    assert command.options == {"task_samples": {"seqrec": 9}}
    assert len({entry.folder for entry in command.entries}) == 5


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        (
            ["--ablation=indices"],
            ["option ablation is indices; expected index or tasks or None. Did you mean 'index'?"],
        ),
        (["--ablation=index", "--model=SASRec"], ["model is SASRec, but the ablations are those of LCRec"]),
        (["--ablation=index", "--model=LCRec,SASRec"], ["model is LCRec,SASRec", "Use --model=LCRec"]),
        (
            ["--ablation=index", "--quantizer=opq", "--sinkhorn_iterations=3"],
            ["quantizer is what --ablation=index varies", "sinkhorn_iterations is what --ablation=index varies"],
        ),
        (["--ablation=index", "--num_levels=2"], ["num_levels is 2; --ablation=index needs 3 or more"]),
        (["--ablation=index", "--num_levels=~"], ["num_levels is ~; --ablation=index needs 3 or more"]),
        (["--ablation=tasks", "--tasks=[seqrec]"], ["tasks is what --ablation=tasks varies"]),
        (["--ablation=tasks", "--stage=index"], ["option stage is index, but a comparison"]),
        (["--ablation=tasks", "--task=1"], ["unknown option task"]),
        (["--model=LCRec,LCRec(ablation=index) as b"], ["option ablation belongs to the whole comparison"]),
        (["--model=LCRec", "--ablation=index", "--tune"], ["option ablation asks for a comparison"]),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], argv: list[str], messages: list[str]) -> None:
    assert cli.main([*argv, "--dataset=ml-100k"]) == 2
    printed = capsys.readouterr().err
    for message in messages:
        assert message in printed


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ["index", "tasks"])
def test_an_ablation_runs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ablation: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    from recbole_lcrec.comparison import ablation as module

    if ablation == "tasks":  # the first and the last are enough
        steps = {"1 seqrec": ("seqrec",), "2 +others": tuple(TASKS[1:])}
        monkeypatch.setattr(module, "_STEPS", steps)
    given = {**TINY, "data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache"), "epochs": 1}
    config, out = tmp_path / "options.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(given))
    argv = [f"--ablation={ablation}", "--dataset=toy", f"--config_files={config}", f"--output_dir={out}", "--jobs=2"]
    assert cli.main(argv) == 0
    with (out / "leaderboard.csv").open() as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert all(row["status"] == "ok" and row["model"] == "LCRec" for row in rows.values())
    results = {path.parent.name: json.loads(path.read_text()) for path in out.glob("runs/*/result.json")}
    page = (out / "report.html").read_text()
    if ablation == "index":
        found = {name: (r["index"]["quantizer"], r["index"]["mapping"]) for name, r in results.items()}
        assert found == {
            "random-2020": ("random", "optimal"),
            "collaborative-2020": ("cid", "optimal"),
            "semantic-without-uniform-mapping-2020": ("rqvae", "digit"),
            "semantic-2020": ("rqvae", "optimal"),
        }
        assert {len(r["index"]["level_sizes"]) for r in results.values()} == {3}
        assert "semantic without uniform mapping" in page and "sinkhorn_iterations=0" in page
    else:
        first, last = results["1-seqrec-2020"]["tasks"], results["2-+others-2020"]["tasks"]
        assert first == {"seqrec": 32} and last["seqrec"] == 32 and list(last) == TASKS
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}
    assert cli.main(argv) == 0, "finished variants are kept"
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}
