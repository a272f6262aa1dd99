"""What is compared: the text of --model, the seeds, and every mistake before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from comparison_helpers import ROOT
from fakes import TINY, write_dataset

from recbole_lcrec.cli import main as cli
from recbole_lcrec.comparison.plan import Stage, make_plan
from recbole_lcrec.comparison.specs import Cluster, Entry, parse_entries
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.sizing import DataSize
from recbole_lcrec.experiment.saving import write_config
from recbole_lcrec.utils.errors import UserError


def parsed(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    reading = Reading()
    entries = parse_entries(text, reading)
    reading.finish()
    return [(entry.label, entry.model, dict(entry.options)) for entry in entries]


def test_entries_with_options_and_labels() -> None:
    assert parsed("Pop, SASRec") == [("Pop", "Pop", {}), ("SASRec", "SASRec", {})]
    text = "SASRec(loss_type=CE),SASRec(loss_type=BPR, learning_rate=1e-3) as SASRec with BPR"
    assert parsed(text) == [
        ("SASRec(loss_type=CE)", "SASRec", {"loss_type": "CE"}),
        ("SASRec with BPR", "SASRec", {"loss_type": "BPR", "learning_rate": 0.001}),
    ]
    nested = "LCRec(clip_grad_norm={'max_norm': 1.0}, tasks=[seqrec, item2index], lm_layers=1),ExactPop()"
    options = {"clip_grad_norm": {"max_norm": 1.0}, "tasks": ["seqrec", "item2index"], "lm_layers": 1}
    assert parsed(nested) == [("LCRec", "LCRec", options), ("ExactPop()", "ExactPop", {})]


def test_a_label_makes_a_folder() -> None:
    assert Entry("SASRec (CE) / ü", "SASRec").folder == "SASRec-CE-ü"
    assert Entry("..", "Pop").folder == "model"


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        (
            ["--model=Pop,SASREC,LCRex(epochs=many)"],
            ["Did you mean 'SASRec'", "Did you mean 'LCRec'", "epochs is many"],
        ),
        (["--model=Pop,Pop"], ["Pop and Pop would have the same name", "as Pop-2"]),
        (["--model=Pop,SASRec(seed=3, topk=[1])"], ["option seed belongs to the whole", "option topk belongs"]),
        (["--model=Pop,SASRec(epoch=3)"], ["unknown option epoch"]),
        (["--model=Pop,SASRec(epochs)"], ["cannot read 'epochs'; expected option=value"]),
        (["--model=Pop,"], ["cannot read ''"]),
        (["--model=Pop,SASRec(epochs=1"], ["cannot read 'SASRec(epochs=1'"]),
        (["--model=Pop,BPR", "--seeds=1,x"], ["option seeds is 1,x"]),
        (["--model=Pop,BPR", "--seeds=[1,1]"], ["option seeds is [1, 1]"]),
        (["--model=Pop,BPR", "--jobs=0"], ["option jobs is 0"]),
        (["--model=Pop", "--jobs=2"], ["option jobs is 2, but there is a single run"]),
        (
            ["--model=Pop", "--address=auto", "--cpus_per_run=2"],
            ["2 mistakes", "option address is auto, but there is a single run", "option cpus_per_run is 2.0, but"],
        ),
        (
            ["--model=Pop,BPR", "--jobs=0", "--cpus_per_run=0", "--gpus_per_run=1.5"],
            [
                "4 mistakes",
                "jobs is 0",
                "option cpus_per_run is 0; expected a number above 0",
                "gpus_per_run is 1.5; expected a",
                "option gpus_per_run is 1.5, but there is no cluster: it goes with --address",
            ],
        ),
        (["--model=Pop,BPR", "--address=auto", "--gpu_id=1"], ["option gpu_id is 1, but with address Ray gives"]),
        (["--model=Pop,BPR(cpus_per_run=2)"], ["option cpus_per_run belongs to the whole comparison"]),
        (["--model=Pop,BPR", "--num_samples=3"], ["--num_samples is an option of a search"]),
        (["--model=BPR", "--tune", "--cpus_per_run=2"], ["a search has trials: use cpus_per_trial"]),
        (["--seeds=1"], ["--model=NAME missing"]),
        (["--model=Pop,BPR", "--dataset=nowhere"], ["unknown data set nowhere"]),
    ],
)
def test_mistakes_are_told_together(capsys: pytest.CaptureFixture[str], argv: list[str], messages: list[str]) -> None:
    dataset = [] if any(argument.startswith("--dataset") for argument in argv) else ["--dataset=ml-100k"]
    assert cli.main([*argv, *dataset]) == 2
    printed = capsys.readouterr().err
    for message in messages:
        assert message in printed


def test_a_comparison_is_handed_over(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("epochs: 3\nseed: 9\nlearning_rate: 0.1\n")
    command = cli.parse(["--model=Pop,BPR(epochs=1)", "--dataset=ml-100k", f"--config_files={config}", "--topk=[5]"])
    assert [entry.label for entry in command.entries] == ["Pop", "BPR(epochs=1)"]
    assert command.seeds == (9,) and command.jobs == 1
    assert command.options == {"epochs": 3, "learning_rate": 0.1, "topk": [5]}
    assert cli.parse(["--model=Pop", "--dataset=ml-100k", "--seeds=2,1"]).seeds == (2, 1)
    there = ["--model=Pop,BPR", "--dataset=ml-100k", "--address=auto"]
    command = cli.parse(there)
    assert (command.cluster, command.jobs) == (Cluster("auto", 1.0, None), None)
    command = cli.parse([*there, "--jobs=3", "--cpus_per_run=0.5", "--gpus_per_run=0"])
    assert (command.cluster, command.jobs) == (Cluster("auto", 0.5, 0.0), 3)
    assert not {"address", "cpus_per_run", "gpus_per_run"} & command.options.keys()


def test_without_a_cluster_ray_is_not_imported() -> None:
    code = "import sys; from recbole_lcrec.comparison import command, runner; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0


@pytest.mark.parametrize("name", ["evaluate", "resume"])
def test_a_saved_run_has_no_cluster(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"option address is auto, but --{name} is about a single run"):
        cli.parse([f"--{name}={tmp_path}", "--address=auto"])


def test_the_plan_checks_values_of_every_model_first(tmp_path: Path) -> None:
    options = {**TINY, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    entries = (
        Entry("a", "SASRec", {"learner": "adamm"}),
        Entry("b", "LCRec", {"num_beams": 3}),
        Entry("c", "LCRec", {"eval_task": "nothing"}),
        Entry("d", "FDSA"),
        Entry("e", "Pop"),
    )
    with pytest.raises(UserError) as caught:
        make_plan("toy", entries, (1,), options, 1)
    for message in (
        "4 mistakes",
        "option learner is adamm",
        "b: option num_beams",
        "option eval_task is nothing",
        "d: model FDSA needs a feature",
    ):
        assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_stages_follow_each_other_and_the_folder_follows_the_contents(tmp_path: Path) -> None:
    options = {**TINY, "data_path": str(write_dataset(tmp_path)), "load_col": None}
    entry = Entry("S3", "S3Rec", {"item_attribute": "title", "pretrain_epochs": 7})
    plan = make_plan("toy", (entry,), (1, 2), options, 1)
    first, second = plan.runs[0].stages
    assert first.folder == second.folder / "pretrain" and plan.runs[0].folder.name == "S3-1"
    assert second.options["pre_model_path"] == str(first.folder / "S3Rec-toy-7.pth")
    assert (first.options["train_stage"], second.options["train_stage"]) == ("pretrain", "finetune")
    again = make_plan("toy", (entry,), (1, 2), options, 2)
    other = make_plan("toy", (entry,), (1, 3), options, 1)
    assert plan.output_dir == again.output_dir != other.output_dir
    given = Entry("S3", "S3Rec", {"item_attribute": "title", "train_stage": "pretrain"})
    assert len(make_plan("toy", (given,), (1,), options, 1).runs[0].stages) == 1


def test_sizes_that_followed_from_the_data_are_no_change_and_others_are(tmp_path: Path) -> None:
    def config(**given: Any) -> LCRecConfig:
        return LCRecConfig("LCRec", "ml-100k", config_dict=given)

    run = config()
    run.size_by(DataSize(300, 5_000, 500))
    write_config(run, tmp_path)
    assert Stage(tmp_path, {}, config().resolved()).changes() == []
    assert Stage(tmp_path, {}, config(codebook_size=[32, 32]).resolved()).changes() == ["codebook_size"]
    write_config(config(codebook_size=[64, 64]), tmp_path)
    assert Stage(tmp_path, {}, config().resolved()).changes() == ["codebook_size"], "it was given, not sized"
