"""The command line of a server: every mistake in one message, before torch is imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.cli.main import parse
from recbole_lcrec.config.loader import dump_values, load_values
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.serving.serve_command import PACKAGES
from recbole_lcrec.serving.settings import read_settings, run_names, serve_options
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG

INSTALLED = all(importlib.util.find_spec(name) is not None for name in PACKAGES)
needs_packages = pytest.mark.skipif(not INSTALLED, reason="needs the extra serve")


def saved_run(folder: Path, **options: Any) -> Path:
    """Make what the command line reads of a finished run."""
    (folder / CHECKPOINT).mkdir(parents=True)
    values = {**load_values(recbole_dir() / "properties" / "overall.yaml"), "model": "LCRec", "dataset": "ml-100k"}
    values |= {"repeatable": True, "eval_args": {"order": "TO"}, "metrics": ["NDCG"], "valid_metric": "NDCG@10"}
    (folder / CONFIG).write_text(dump_values({**values, **options}), encoding="utf-8")
    return folder


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(arguments)
    return str(caught.value)


@needs_packages
def test_one_run_or_two_of_a_data_set_can_be_served(tmp_path: Path) -> None:
    one, two = saved_run(tmp_path / "one"), saved_run(tmp_path / "a, b", model="SASRec")
    assert parse([f"--serve={one}", "--serve_port=0", "--use_gpu=False"]).serve is not None
    assert parse([f"--serve={two}"]).serve is not None  # a folder whose name has a comma
    assert parse([f"--serve={one},{saved_run(tmp_path / 'two')}"]).serve is not None
    assert run_names((one, two)) == ("one", "a, b")
    assert run_names((one, saved_run(tmp_path / "x" / "one"))) == (str(one), str(tmp_path / "x" / "one"))


@needs_packages
def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    run, other = saved_run(tmp_path / "run"), saved_run(tmp_path / "other", dataset="Games")
    message = refused(f"--serve={run},{tmp_path}", "--serve_port=70000", "--model=LCRec", "--evaluate=x")
    for words in (
        f"{tmp_path} is not the folder of a finished run: it has no {CONFIG}",
        "option serve_port is 70000; expected a whole number from 0 to 65,535",
        "--model cannot go with --serve",
        "--evaluate cannot go with --serve",
    ):
        assert words in message
    assert "names the same run twice" in refused(f"--serve={run},{run}")
    assert "names 3 runs; at most 2" in refused(f"--serve={run},{other},x")
    assert "was trained on ml-100k" in refused(f"--serve={run},{other}")
    assert "--num_levels cannot go with a saved run" in refused(f"--serve={run}", "--num_levels=3")
    assert "an empty name is not the folder" in refused("--serve=")
    assert "unknown option serve_prt. Did you mean 'serve_port'?" in refused(f"--serve={run}", "--serve_prt=1")


def test_options_of_a_server_alone_have_no_effect() -> None:
    message = refused("--model=Pop", "--dataset=ml-100k", "--serve_port=80")
    assert "--serve_port is an option of --serve=RUN_DIR and has no effect without it" in message


def test_missing_packages_are_one_message_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name in PACKAGES else find(name))
    message = refused(f"--serve={saved_run(tmp_path / 'run')}")
    assert "fastapi, uvicorn, prometheus_client" in message and 'pip install "recbole-lcrec[serve]"' in message
    assert "\n" not in message


def test_the_settings_are_those_that_the_yaml_declares() -> None:
    settings = read_settings({"serve_k": 7})
    assert {name: getattr(settings, name) for name in serve_options()} == {**serve_options(), "serve_k": 7}
    assert settings.serve_host == "127.0.0.1"  # this machine alone, unless told


def test_a_mistake_costs_no_import_of_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from recbole_lcrec.cli.main import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'fastapi', 'uvicorn'} & sys.modules.keys(); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, f"--serve={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 2 and "is not the folder of a finished run" in done.stderr
