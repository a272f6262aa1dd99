"""The viewer prints samples of every task, the user tasks among them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fakes import TINY, write_dataset

from recbole_lcrec.cli.viewer import main
from recbole_lcrec.instruction.templates import TEMPLATES


def arguments(folder: Path, *more: str) -> list[str]:
    write_dataset(folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "task_weights": {"preferenceobtain": 0.5}}))
    given = ["--dataset=toy", f"--data_path={folder}", f"--config_files={folder / 'tiny.yaml'}"]
    return [*given, f"--cache_dir={folder / 'cache'}", *more]


@pytest.mark.parametrize("task", [list(TEMPLATES)[0], *list(TEMPLATES)[-2:], "yesno", "titlesearch"])
def test_samples_of_a_task_are_printed(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [] if task in TEMPLATES else ["--task_samples=8", "--task_weights=~"]  # those given are LCRec's
    assert main(arguments(tmp_path, f"--task={task}", "--count=3", "--epoch=1", *others)) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"--- {task}, epoch 1") == 3
    assert shown.count("</s>") == 3 and ("[[</s>]]:0.5" in shown) == (task == "preferenceobtain")


def test_a_task_without_samples_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "--task=itemsearch", "--user_text=none")) == 2
    assert "user_text" in capsys.readouterr().err
