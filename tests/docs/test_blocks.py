"""What README and docs tell people to type: every command is accepted, every program and what takes seconds is run."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_blocks import OPTIONS, PAGES, ROOT, Block, blocks_of, furnish, write_films
from registrations import registered

import recbole_lcrec
from recbole_lcrec.benchmarks.__main__ import BENCHMARKS
from recbole_lcrec.cli import viewer
from recbole_lcrec.cli.main import Command, main, parse
from recbole_lcrec.config import plugins
from recbole_lcrec.convert.__main__ import arguments as convert_arguments
from recbole_lcrec.convert.__main__ import main as convert

__all__ = ["registered"]

BLOCKS = {str(page.relative_to(ROOT)): blocks_of(page) for page in PAGES}
OURS = (["python", "run_recbole_lcrec.py"], ["python", "-m", "recbole_lcrec"], ["recbole-lcrec"])
TRAINS = ("--model", "--dataset", "--ablation")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def pages_with(language: str, *how: str) -> list[str]:
    return [
        page
        for page, blocks in BLOCKS.items()
        if any(b.language == language and (not how or b.how in how) for b in blocks)
    ]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one training of this module: an LCRec on a few films, that all blocks find in their saved/."""
    folder = tmp_path_factory.mktemp("finished")
    write_films(folder, "ml-100k")
    given = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "run")}
    recbole_lcrec.run("LCRec", "ml-100k", {**OPTIONS, **given})
    return folder / "run"


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Block]:
    """Go to a folder with what a page speaks of; return the page's blocks. Files that blocks show are written."""
    blocks = BLOCKS[request.node.callspec.params["page"]]
    furnish(tmp_path, finished, [block.text for block in blocks])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks:
        if named := re.match(r"# ([\w.]+\.(?:py|yaml))\n", block.text):
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
    if any("examples/plugin" in block.text for block in blocks):
        _install_example(tmp_path)
        monkeypatch.syspath_prepend(ROOT / "examples" / "plugin")
        monkeypatch.setenv(
            "PYTHONPATH", f"{ROOT / 'examples' / 'plugin'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        )
    plugins.load_installed.cache_clear()
    return blocks


def _install_example(folder: Path) -> None:
    """Do what pip does with an entry point."""
    info = folder / "recbole_lcrec_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recbole-lcrec-example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recbole_lcrec.plugins]\nexample = recbole_lcrec_example.register\n")


def test_blocks_are_of_known_kinds() -> None:
    languages = {block.language for blocks in BLOCKS.values() for block in blocks}
    assert languages == {"bash", "python", "yaml", "toml", "console", "bibtex", "text"}
    for block in (block for blocks in BLOCKS.values() for block in blocks):
        assert block.how in ("run", "slow") or (block.how == "parse" and block.reason), f"{block.page}:{block.line}"
    for block in (block for blocks in BLOCKS.values() for block in blocks if block.language in ("yaml", "toml")):
        assert (yaml.safe_load if block.language == "yaml" else tomllib.loads)(block.text)


@pytest.mark.parametrize("page", sorted({*pages_with("bash"), *pages_with("console")}))
def test_commands_are_accepted(page: str, place: list[Block]) -> None:
    for block in place:
        for command in block.commands() if block.language in ("bash", "console") else ():
            _accept(command)


def _accept(command: Sequence[str]) -> None:
    """Check a command without running it: options of ours, extras, files and names of the tools around."""
    if command[0] == "torchrun":
        command = ["python", *command[command.index("run_recbole_lcrec.py") :]]
    if command[:2] == ["docker", "run"]:
        (image,) = (place for place, word in enumerate(command) if word.partition(":")[0] == "recbole-lcrec")
        command = ["recbole-lcrec", *command[image + 1 :]]
    for ours in OURS:
        if command[: len(ours)] == ours:
            rest = command[len(ours) :]
            assert rest == ["--help"] or isinstance(parse(rest), Command)
            return
    match command:
        case ["python", "-m", "recbole_lcrec.convert", *rest]:
            convert_arguments().parse_args(rest)
        case ["python", "-m", "recbole_lcrec.benchmarks", name, *rest]:
            parser = argparse.ArgumentParser(allow_abbrev=False)
            BENCHMARKS[name].add_arguments(parser)
            parser.parse_args(rest)
        case ["python", "-m", "recbole_lcrec.cli.viewer", *rest]:
            assert parse(["--model=LCRec", *(word for word in rest if not word.startswith("--task="))])
        case ["pip", "install", *rest]:
            for extra in re.findall(r"\[([\w,]+)\]", " ".join(rest)):
                assert set(extra.split(",")) <= EXTRAS.keys(), command
            assert all(Path(word).exists() for word in rest if "/" in word or word.endswith(".txt")), command
        case ["python", script, *_] if script.endswith(".py"):
            assert Path(script).exists() or script == "my-recommender/recommend.py", command
        case _:
            assert command[0] in ("python3", ".", "ruff", "mypy", "ray", "mkdocs", "docker", "curl") or command[
                :3
            ] == [*("python", "-m", "pytest")], f"what is {shlex.join(command)}?"


@pytest.mark.parametrize("page", pages_with("bash", "run"))
def test_commands_of_seconds_run(page: str, place: list[Block]) -> None:
    for block in place:
        if block.language == "bash" and block.how == "run":
            for command in block.commands():
                _carry_out(command)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("bash", "slow"))
def test_commands_of_minutes_run_with_tiny_options(page: str, place: list[Block]) -> None:
    for block in place:
        if block.language == "bash" and block.how != "parse":
            for command in block.commands():
                _carry_out(command)


def _carry_out(command: Sequence[str]) -> None:
    for ours in OURS:
        if command[: len(ours)] == ours:
            rest = [word for word in command[len(ours) :] if not word.startswith("--seeds=")]
            if any(word.startswith("--tune") for word in rest):
                rest = [word for word in rest if not word.startswith("--num_samples")]
                rest += ["--config_files=short.yaml", "--num_samples=2"]
            elif any(word.startswith(TRAINS) for word in rest):
                rest += ["--config_files=tiny.yaml", "--seed=1"]
            assert main(rest) == 0, shlex.join(command)
            return
    match command:
        case ["python", "-m", "recbole_lcrec.convert", *rest]:
            assert convert(rest) == 0
        case ["python", "-m", "recbole_lcrec.cli.viewer", *rest]:
            assert viewer.main([*rest, "--config_files=tiny.yaml"]) == 0
        case ["python", *rest]:
            subprocess.run([sys.executable, *rest], check=True, capture_output=True, timeout=120)
        case _:
            raise AssertionError(f"nobody knows how to run {shlex.join(command)}: mark the block")


def _run_python(blocks: Sequence[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's programs, one after the other as a reader would; trainings get tiny options."""
    real = recbole_lcrec.run

    @functools.wraps(real)
    def tiny(model: Any, dataset: str, config_dict: Any = None, **more: Any) -> Any:
        return real(model, dataset, {**(config_dict or {}), **OPTIONS}, **more)

    monkeypatch.setattr(recbole_lcrec, "run", tiny)
    names: dict[str, Any] = {}
    for block in blocks:
        code = compile("\n" * block.line + block.text, block.page, "exec")
        if block.how != "parse":
            exec(code, names)


@pytest.mark.parametrize("page", [page for page in pages_with("python") if page not in pages_with("python", "slow")])
def test_programs_run(page: str, place: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    _run_python([block for block in place if block.language == "python"], monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python", "slow"))
def test_slow_programs_run(page: str, place: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    _run_python([block for block in place if block.language == "python"], monkeypatch)


@pytest.mark.parametrize("page", ["docs/serving.md"])
def test_questions_to_a_server_get_answers_of_the_form_shown(page: str, place: list[Block]) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    pytest.importorskip("prometheus_client")
    from recbole_lcrec import Recommender
    from recbole_lcrec.serving.app import make_app
    from recbole_lcrec.serving.service import Service
    from recbole_lcrec.serving.settings import read_settings

    (text,) = (block.text for block in place if block.language == "console")
    asked = re.findall(r"^\$ (curl .*)\n(.*)$", text, re.M)
    assert len(asked) > 3
    app = make_app(Service({"my-run": Recommender.load("saved/my-run")}, read_settings({})))
    with testclient.TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for command, shown in asked:
            words = shlex.split(command)
            (path,) = (word.removeprefix("localhost:8000") for word in words if word.startswith("localhost:8000"))
            body = words[words.index("-d") + 1] if "-d" in words else None
            answer = client.get(path) if body is None else client.post(path, json=json.loads(body))
            assert _form(answer.json()) == _form(json.loads(shown)), command


def _form(value: Any) -> Any:
    """Return what an answer is made of: the first element of lists, names of fields, kinds of values."""
    if isinstance(value, list):
        return [_form(value[0])] if value else []
    return {name: _form(one) for name, one in value.items()} if isinstance(value, dict) else type(value).__name__
