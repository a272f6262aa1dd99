"""The comparison with RecBole3.0, on a stand-in for it that has the calls of its RQ-VAE."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.benchmarks import __main__ as command_line
from recbole_lcrec.benchmarks import against_recbole3
from recbole_lcrec.benchmarks.made_up import Sizes

TINY = Sizes(
    items=60, users=20, length=5, batch=4, steps=8, asked=3, beams=10, codes=8, words=300, width=16, layers=1,
    embedded=200, dimensions=12, encoder=(16,), latent=4, rqvae_batch=50,
)  # fmt: skip
STAND_IN = {
    "__init__.py": "",
    "model/__init__.py": "",
    "model/rqvae/__init__.py": "",
    "model/rqvae/config.py": "def RQVAEConfig(**options): return options\n",
    "model/rqvae/model.py": (
        "import torch\n"
        "class RQVAEModel(torch.nn.Linear):\n"
        "    def __init__(self, options): super().__init__(options['sem_emb_dim'], 3)\n"
        "    def init_codebook(self, x): super().forward(x)\n"
        "    def forward(self, batch): return super().forward(batch['item_embeddings'])\n"
        "    def compute_loss(self, batch, outputs): return {'loss': outputs.square().sum()}\n"
    ),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in STAND_IN.items():
        path = tmp_path / "src" / "recbole3" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(against_recbole3, "in_a_process", lambda function, *arguments: function(*arguments))
    tiny = {name: replace(work, sizes=TINY) for name, work in against_recbole3.WORKS.items()}
    monkeypatch.setattr(against_recbole3, "WORKS", tiny)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "recbole3"]:
        del sys.modules[name]


def ask(checkout: Path, *arguments: str) -> int:
    return command_line.main(["peers", "--checkout", str(checkout), "--repeats", "1", *arguments])


def test_a_table_with_ratios(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = checkout / "peers.json"
    assert ask(checkout, "--works", "rqvae-start", "rqvae-epoch", "--output", str(file)) == 0
    rows = json.loads(file.read_text())["results"]
    assert [row["CPU s per"] for row in rows] == ["start", "epoch"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["RecBole3.0"] / row["ours"])
    assert "k-means start" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("work", ["lcrec-training", "lcrec-evaluation", "tiger-training", "tiger-evaluation"])
def test_our_side_does_every_work(checkout: Path, work: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert against_recbole3.WORKS[work].ours(TINY, str(folder)) > 0


def test_what_is_no_checkout_or_has_other_calls_is_said(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(checkout / "src") == 2 and "which has the folder src/recbole3" in capsys.readouterr().err
    assert ask(checkout, "--works", "tiger-training") == 2
    assert "recbole3.model.tiger.data cannot be imported" in capsys.readouterr().err
    (checkout / "src" / "recbole3" / "model" / "rqvae" / "config.py").write_text("class RQVAEConfig: pass\n")
    assert ask(checkout, "--works", "rqvae-epoch") == 2
    assert "cannot be measured with this state of RecBole3.0 (TypeError" in capsys.readouterr().err


def test_made_up_data_are_what_both_sides_expect() -> None:
    sizes: Any = TINY
    paths, sequences = sizes.paths(), sizes.sequences()
    assert paths.shape == (60, 4) and len({tuple(path) for path in paths.tolist()}) == 60
    assert sequences.shape == (20, 7) and 0 <= sequences.min() and sequences.max() < 60 and paths.max() < 8
