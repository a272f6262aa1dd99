"""``--nproc=2`` on the command line, as a user would give it: a whole run, an interrupted one, and a failing one."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import TINY, write_dataset
from killing import wait_for
from safetensors.torch import load_file

from recbole_lcrec.cli.main import main, parse
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "run_recbole_lcrec.py")
OF_THIS_RUN = {"seconds", "evaluated_users_per_second", "memory", "learning_curve"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_dataset(tmp_path_factory.mktemp("command"))
    options = {**TINY, "data_path": str(folder), "cache_dir": str(folder / "cache"), "lm_dropout": 0.2, "epochs": 3}
    (folder / "options.yaml").write_text(yaml.safe_dump({**options, "checkpoint_every_n_steps": 2}))
    return folder


def arguments(folder: Path, name: str, *more: str) -> list[str]:
    files = f"--config_files={folder / 'options.yaml'}"
    return ["--model=LCRec", "--dataset=toy", files, f"--output_dir={folder / name}", *more]


def started(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(folder: Path) -> str:
    """Return the output of an uninterrupted run in two processes."""
    process = started(SCRIPT, *arguments(folder, "whole", "--nproc=2"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def test_a_run_in_two_processes(folder: Path, whole: str) -> None:
    found = result(folder, "whole")
    assert found["processes"] == 2
    assert whole.count("best valid ") == whole.count("epoch 3 of 3: validation") == 1, "one process logs"
    assert sorted(path.name for path in (folder / "cache" / "index").iterdir())[1:] == [], "one index"
    assert len(gzip.decompress((folder / "whole" / "ranks.csv.gz").read_bytes()).splitlines()) == 1 + 40
    assert main([f"--evaluate={folder / 'whole'}"]) == 0, "one process evaluates what two have trained"
    evaluated = json.loads((folder / "whole" / "evaluation.json").read_text())
    assert evaluated["test_result"] == found["test_result"]


@pytest.mark.slow
def test_interrupted_and_resumed_by_torchrun(folder: Path, whole: str) -> None:
    cut = started(SCRIPT, *arguments(folder, "cut", "--nproc=2"))
    wait_for(folder / "cut" / "resume" / "step-00000002" / "manifest.json", 120)
    cut.send_signal(signal.SIGTERM)
    _, err = cut.communicate()
    assert cut.returncode == 143
    assert err.splitlines()[-1] == f"stopped by SIGTERM. Go on with: python {SCRIPT} --resume={folder / 'cut'}"
    with pytest.raises(UserError, match="began with 2 process"):
        parse([f"--resume={folder / 'cut'}", "--nproc=3"])
    assert parse([f"--resume={folder / 'cut'}"]).processes.here == 2
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    resumed = started(*torchrun, SCRIPT, f"--resume={folder / 'cut'}")
    _, err = resumed.communicate()
    assert resumed.returncode == 0, err
    one, other = result(folder, "whole"), result(folder, "cut")
    assert {key for key in one if one[key] != other[key]} <= OF_THIS_RUN
    expected, found = (load_file(folder / name / "checkpoint" / "model.safetensors") for name in ("whole", "cut"))
    assert all((found[name] == value).all() for name, value in expected.items())


def test_a_mistake_is_told_once(folder: Path) -> None:
    process = started(SCRIPT, *arguments(folder, "wrong", "--nproc=2", "--text_encoder=file:missing.npy"))
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert err.count("error:") == 1 and "Traceback" not in err
    assert not (folder / "wrong").exists(), "nothing half-written stays behind"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model=SASRec", "--seeds=1,2", "--nproc=2"], "comparison take one process each"),
        (["--model=SASRec", "--tune", "--nproc=2"], "every trial of a search is one process"),
        (["--model=SASRec", "--nproc=0"], "nproc is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse([*argv, "--dataset=toy", f"--data_path={folder}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "Pop"}, "Pop counts or solves"),
        ({"model": "ExactPop"}, "ExactPop counts or solves"),
        ({"model": "NCL"}, "NCL is trained by RecBole in a loop of its own"),
        ({"model": "S3Rec", "train_stage": "pretrain", "item_attribute": "title"}, "in stages of its own"),
        ({"model": "LCRec", "stage": "index"}, "one process builds"),
        ({"model": "LCRec", "parallel": "ddpp"}, "parallel is ddpp; expected ddp or fsdp"),
        ({"model": "TIGER", "parallel": "fsdp"}, "TIGER has no causal language model"),
        ({"model": "LCRec", "parallel": "fsdp", "torch_compile": True}, "does not go with torch_compile"),
        ({"model": "LCRec", "parallel": "fsdp", "preference_stage": "dpo"}, "does not go with preference_stage=dpo"),
    ],
)
def test_what_takes_one_process_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    from recbole_lcrec.distributed import group

    monkeypatch.setattr(group._group, "place", group.Place(0, 0, 2, 2))
    with pytest.raises(UserError, match=message):
        LCRecConfig(dataset="toy", config_dict={"data_path": str(folder), "use_gpu": False, **options})
