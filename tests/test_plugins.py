"""Components of other people: as a class, a file, a module or an installed package, wherever a name can stand."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fakes import TINY, write_dataset
from recbole.model.sequential_recommender import GRU4Rec, SASRec
from registrations import registered

from recbole_lcrec.cli import main as cli
from recbole_lcrec.config import LCRecConfig, plugins, registry
from recbole_lcrec.convert import Converter
from recbole_lcrec.convert.__main__ import main as convert_main
from recbole_lcrec.convert.kinds import TABLE
from recbole_lcrec.embedding import Encoder, Task
from recbole_lcrec.experiment import evaluate, load_experiment, run
from recbole_lcrec.utils.errors import UserError

__all__ = ["registered"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
OWN = '''
from recbole.model.sequential_recommender import SASRec

class Mine(SASRec):
    """A user's own model, with an option of its own."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = config["my_scale"]

    def full_sort_predict(self, interaction):
        return self.scale * super().full_sort_predict(interaction)
'''
OPTIONS = "my_scale: 1.0  # (float > 0) Factor of all scores.\n"
SMALL = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "epochs": 1, "show_progress": False}


torch.autograd.set_detect_anomaly(False)  # importing RecBole's SINE, as the line above does, switches it on


@pytest.fixture(autouse=True)
def no_anomaly_detection() -> Iterator[None]:
    """Importing RecBole's SINE switches it on."""
    yield
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set and a file with a model."""
    write_dataset(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "Mine.yaml").write_text(OPTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(folder: Path, name: str) -> list[str]:
    small = [f"--{option}={value}" for option, value in SMALL.items()]
    return [f"--data_path={folder}", "--dataset=toy", f"--output_dir={folder / name}", *small]


def forget() -> None:
    """Be another process, in which nothing has been loaded."""
    registry.MODELS.components.pop("Mine", None)
    plugins.LOADED.clear()


def test_a_file_s_model_is_run_evaluated_and_finished_like_ours(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model=own.py:Mine", *options(own, "out"), "--my_scale=2"]) == 0
    saved = yaml.safe_load((own / "out" / "config.yaml").read_text())
    assert (saved["model"], saved["my_scale"], saved["plugins"]) == ("Mine", 2.0, [f"{own}/own.py:Mine"])
    assert saved["n_layers"] == 1 and saved["attn_dropout_prob"] == 0.5, "SASRec's defaults"
    result = json.loads((own / "out" / "result.json").read_text())
    plain = run("SASRec", "toy", {**SMALL, "data_path": str(own), "output_dir": str(own / "plain")})
    assert result["test_result"] == plain["test_result"], "a factor changes no ranking"

    forget()
    assert cli.main([f"--evaluate={own / 'out'}"]) == 2
    asked = f'--plugins="[{own}/own.py:Mine]"'
    assert asked in capsys.readouterr().err
    assert "Mine" not in registry.MODELS, "the code of a saved run is not run unasked"
    assert cli.main([f"--evaluate={own / 'out'}", asked.replace('"', "")]) == 0
    assert json.loads((own / "out" / "evaluation.json").read_text())["test_result"] == result["test_result"]
    forget()
    assert cli.main([f"--resume={own / 'out'}", asked.replace('"', "")]) == 0, "it is finished"


def test_its_options_are_checked_and_shown(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model=own.py:Mine", *options(own, "out"), "--my_scale=-1", "--my_scael=1"]) == 2
    told = capsys.readouterr().err
    assert "option my_scale is -1; expected a number above 0 (Factor of all scores.)" in told
    assert "unknown option my_scael. Did you mean 'my_scale'?" in told
    assert cli.main(["--help=models"]) == 0 and cli.main(["--help=Mine"]) == 0
    shown = capsys.readouterr().out
    assert "Models of plugins: Mine" in shown and "--my_scale=1.0\n      (float > 0) Factor of all scores." in shown
    assert not (own / "out").exists()


def test_a_class_is_enough_in_python(own: Path) -> None:
    class Other(GRU4Rec):  # type: ignore[misc]
        pass

    base = {"data_path": str(own), "epochs": 1, "show_progress": False, "hidden_size": 8, "embedding_size": 8}
    found = run(Other, "toy", {**base, "output_dir": str(own / "other")})
    assert found["test_result"] == run(GRU4Rec, "toy", {**base, "output_dir": str(own / "gru")})["test_result"]
    assert registry.base_of("Other") == "GRU4Rec" and "GRU4Rec" not in registry.MODELS
    assert load_experiment(own / "other").config["plugins"] == []


def test_what_is_derived_from_a_model_of_ours_has_its_parts(own: Path) -> None:
    (own / "mine.py").write_text("from recbole_lcrec.model.tiger import TIGER\n\nclass Tigress(TIGER):\n    pass\n")
    config = LCRecConfig("mine.py:Tigress", "toy", config_dict={"data_path": str(own)})
    assert registry.base_of("Tigress") == "TIGER" and registry.is_generative("Tigress")
    assert config["t5_layers"] == 4 and config["num_levels"] == 3


def test_a_comparison_and_a_search_know_it(own: Path) -> None:
    command = cli.parse(["--model=own.py:Mine(my_scale=3) as M,SASRec", *options(own, "c")])
    assert [(entry.model, entry.label) for entry in command.entries] == [("Mine", "M"), ("SASRec", "SASRec")]
    assert command.options["plugins"] == [f"{own}/own.py:Mine"], "the runs' processes load it too"
    (own / "space.yaml").write_text("my_scale: {choice: [1.0, 2.0]}\n")
    search = cli.parse(["--model=own.py:Mine", f"--tune={own / 'space.yaml'}", *options(own, "s")]).search
    assert search is not None


@pytest.mark.parametrize(
    ("reference", "text", "message"),
    [
        ("none.py:Mine", None, "none.py does not exist"),
        ("no_such_package.models:Mine", None, "there is no module no_such_package.models"),
        ("bad.py:Mine", "def", "bad.py:Mine: cannot be imported: SyntaxError: .* line 1 of"),
        ("bad.py:Mine", "import no_such_thing\n", "it needs the module no_such_thing, which is not found"),
        ("bad.py:Mine", "1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
        ("bad.py:Mine", "Mine = 3\n", "has no class Mine"),
        ("bad.py:Mine", "class Mine:\n    pass\n", "Mine is not a recommender"),
        (
            "bad.py:BERT4Rec",
            "from recbole.model.sequential_recommender import SASRec\nclass BERT4Rec(SASRec):\n    pass\n",
            "model BERT4Rec is one of RecBole's, so .* needs another name",
        ),
    ],
)
def test_what_cannot_be_used_is_told(
    own: Path, reference: str, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (own / "bad.py").write_text(text)
    assert cli.main([f"--model={reference}", *options(own, "out")]) == 2
    told = capsys.readouterr().err
    with pytest.raises(UserError, match=message):
        raise UserError(told)
    assert "Traceback" not in told and not (own / "out").exists()


def test_names_are_registered_once() -> None:
    registry.register_model("Once", SASRec)
    registry.register_model("Once", SASRec)
    with pytest.raises(UserError, match="model Once is registered by .*SASRec already, so .*GRU4Rec needs another"):
        registry.register_model("Once", GRU4Rec)
    with pytest.raises(UserError, match="quantizer 'two words' .*expected a name of letters"):
        registry.register_quantizer("two words", "a:b")
    with pytest.raises(UserError, match="unknown quantizer rqvea. Did you mean 'rqvae'"):
        registry.QUANTIZERS["rqvea"]


def test_the_example_is_installed_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    copy = tmp_path / "source"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(copy)], check=True)
    subprocess.run([*install, f"--target={tmp_path / 'installed'}", str(copy)], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    plugins.load_installed.cache_clear()
    write_dataset(tmp_path)
    where = {"data_path": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "show_progress": False}
    found = run("MeanRec", "toy", {**where, "epochs": 3, "mean_dim": 8, "output_dir": str(tmp_path / "mean")})
    assert found["test_result"]["hit@10"] > 0
    tiny = {**TINY, **where, "quantizer": "halves", "halves_axis": 1, "output_dir": str(tmp_path / "lcrec")}
    result = run("LCRec", "toy", tiny)
    assert result["index"]["quantizer"] == "halves" and result["index"]["collision_rate_after"] == 0
    assert evaluate(tmp_path / "lcrec")["test_result"] == result["test_result"]
    letters = {"text_encoder": "letters", "letters_width": 16, "stage": "index", "output_dir": str(tmp_path / "index")}
    run("LCRec", "toy", {**TINY, **where, **letters})
    assert "letters_width: 16" in (tmp_path / "index" / "config.yaml").read_text()
    (tmp_path / "log").write_text("1|a|x\n2|a|y\n3|b|x\n4|b\n?|b|y\n")
    assert convert_main(["weblog", str(tmp_path / "log"), "--name=shop", f"--output={tmp_path}"]) == 0
    assert (tmp_path / "shop" / "shop.inter").read_text().splitlines()[1:] == ["a\tx\t1", "a\ty\t2", "b\tx\t3"]
    rejected = (tmp_path / "shop" / "shop.rejected").read_text().splitlines()
    assert [line.split("\t")[:2] for line in rejected] == [
        ["log:4", "not three columns"],
        ["log:5", "time is not a number"],
    ]


def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Point:
        name, value, dist = "p", "broken_thing", None

        def load(self) -> Any:
            raise ImportError("no module broken_thing")

    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: [Point()])
    plugins.load_installed.cache_clear()
    assert cli.main(["--model=Pop", "--dataset=ml-100k"]) == 2
    assert (
        "the plugin p of the installed package broken_thing cannot be loaded: ImportError" in capsys.readouterr().err
    )


@dataclass
class HashedOptions:
    """Options of the encoder below."""

    hashed_width: int = 8
    hashed_words: list[str] | None = None


def test_an_encoder_has_options_of_its_own_and_a_place_in_the_cache(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute(task: Task) -> np.ndarray:
        asked.append(task.settings.own["hashed_width"])
        seeds = [sum(map(ord, text)) for text in task.texts]
        return np.stack([np.random.default_rng(seed).normal(size=asked[-1]) for seed in seeds]).astype(np.float32)

    encoder = Encoder("hashed", takes_source=False, compute=compute, key=lambda task: [task.settings.own])
    registry.register_encoder("hashed", encoder, defaults=HashedOptions)
    where = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache"), "stage": "index"}
    base = {**TINY, **where, "text_encoder": "hashed"}
    for number, width in enumerate((8, 8, 4)):
        more = {} if width == 8 else {"hashed_width": width}
        run("LCRec", "toy", {**base, **more, "output_dir": str(tmp_path / str(number))})
    assert asked == [8, 4], "the second time it comes from the cache"
    with pytest.raises(UserError, match=r"option hashed_words is \[1\].* expected a list of text"):
        LCRecConfig("LCRec", "toy", config_dict={**base, "hashed_words": [1]})


def test_a_converter_reads_another_kind_of_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def opened(given: argparse.Namespace) -> Any:
        table = tmp_path / "table.csv"
        table.write_text("user_id,item_id,timestamp\n" + given.input.read_text().replace("|", ","))
        absent = {"items": "none", **dict.fromkeys(("columns", "item_columns", "separator", "no_quotes"))}
        return TABLE.open(argparse.Namespace(**{**vars(given), "input": table, **absent}))

    registry.register_converter("pipes", Converter(opened), text="lines of user|item|time")
    (tmp_path / "log.txt").write_text("a|x|1\na|y|2\nb|x|3\n")
    given = ["pipes", str(tmp_path / "log.txt"), "--name=shop", f"--output={tmp_path}", "--no-progress"]
    assert convert_main(given) == 0
    assert (tmp_path / "shop" / "shop.inter").read_text().splitlines()[1:] == ["a\tx\t1", "a\ty\t2", "b\tx\t3"]
    with pytest.raises(SystemExit):
        convert_main(["--help"])
    assert "lines of user|item|time" in capsys.readouterr().out
