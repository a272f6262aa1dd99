"""The tutorials: committed with outputs, executable, and what they promise of notebooks."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import OPTIONS, ROOT, write_films

from recbole_lcrec import run
from recbole_lcrec.cli.main import parse
from recbole_lcrec.convert.__main__ import arguments as convert_arguments
from recbole_lcrec.training.trainer import FeatureTrainer

SMALL = {"epochs": 1, "hidden_size": 16, "n_layers": 1, "n_heads": 2, "use_gpu": False, "show_progress": False}
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_they_are_committed_as_they_ran(path: Path) -> None:
    outputs = [cell["outputs"] for cell in cells(path, "code")]
    assert sum(map(bool, outputs)) >= len(outputs) / 2, "run python docs/notebooks.py"
    assert all(output["output_type"] != "error" for several in outputs for output in several)
    assert not re.search(r"/(tmp|home|root|work)/", path.read_text(encoding="utf-8"))
    assert [cell["execution_count"] for cell in cells(path, "code")] == list(range(1, len(outputs) + 1))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_their_links_and_commands_are_right(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)\s#]+)", cell["source"]):
            assert target.startswith("http") or (path.parent / target).is_file(), target
        assert "![](" not in cell["source"], "a picture without a text in its place"
    write_films(tmp_path / "data", "shop")
    monkeypatch.chdir(tmp_path)
    for cell in cells(path, "code"):
        if found := re.match(r"%%writefile (\S+)\n", cell["source"]):
            Path(found[1]).write_text(cell["source"][found.end() :], encoding="utf-8")
        for line in re.findall(r"^!(python .*)$", cell["source"].replace("\\\n", " "), re.M):
            words = shlex.split(re.split(r" > |; ", line)[0])
            if words[2] == "recbole_lcrec.convert":
                convert_arguments().parse_args(words[3:])
            elif not any("=saved/shop" in word for word in words):  # that run is made by another cell
                assert parse(words[3:]), line


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_they_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient", reason="needs the extra docs")
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec is not None and spec.loader is not None
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executed = notebooks.execute(path, tmp_path)
    for now, then in zip([c for c in executed.cells if c.cell_type == "code"], cells(path, "code"), strict=True):
        assert len(now.outputs) == len(then["outputs"]), now.source


def test_an_interrupted_cell_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_films(tmp_path, "ml-100k")
    where = {"data_path": str(tmp_path), "output_dir": str(tmp_path / "out")}

    def interrupted(*given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureTrainer, "_valid_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("SASRec", "ml-100k", {**SMALL, **where})
    result = run("SASRec", "ml-100k", {**SMALL, **where})
    assert result["epochs"] == 1 and result["test_result"] is not None
    shown = result._repr_html_()  # type: ignore[attr-defined]
    assert f"<td>{result['test_result']['ndcg@10']:.4f}" in re.sub(r" style=\"[^\"]*\"|(?<=>) +| +(?=<)", "", shown)


KERNEL = """
from recbole_lcrec import run
run("LCRec", "ml-100k", {**options, "epochs": %d})
"""


@pytest.mark.slow
def test_a_kernel_is_interrupted_and_shows_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("jupyter_client.manager", reason="needs the extra docs")
    pytest.importorskip("ipywidgets", reason="needs the extra docs")
    write_films(tmp_path, "ml-100k")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    given = {**OPTIONS, "data_path": str(tmp_path), "output_dir": "out", "cache_dir": "cache", "show_progress": True}
    kernel, client = manager.start_new_kernel(cwd=str(tmp_path))
    messages: list[Any] = []
    try:
        asked = client.execute(f"options = {given!r}{KERNEL % 100_000}")
        while not list((tmp_path / "out").glob("resume/step-*")):  # it trains
            time.sleep(0.2)
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=120)
        while reply["parent_header"].get("msg_id") != asked:
            reply = client.get_shell_msg(timeout=120)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        again = client.execute_interactive(KERNEL % 1, output_hook=messages.append, timeout=300)
        assert again["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    data = [message["content"].get("data", {}) for message in messages]
    assert any("application/vnd.jupyter.widget-view+json" in one for one in data), "bars are widgets"
    assert any("<table>" in one.get("text/html", "") for one in data), "the result is a table"
