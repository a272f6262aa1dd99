"""An export recommends what its run does, in a process that has neither this package nor RecBole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from export_helpers import KINDS, Histories, recommended_alone
from fakes import save_checkpoint, write_dataset

from recbole_lcrec.cli import main as cli
from recbole_lcrec.experiment import run
from recbole_lcrec.export import exporting
from recbole_lcrec.export.card import licence_of
from recbole_lcrec.export.checking import sample_of
from recbole_lcrec.utils.errors import UserError

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
    runs, folders, expected, made = {}, {}, {}, {}
    for number, (name, kind) in enumerate(KINDS.items()):
        options = {**kind.options, **({"base_model": bases[kind.base]} if kind.base else {})}
        key = json.dumps([kind.model, options])
        if key not in made:
            made[key] = root / f"run{number}"
            places = {"data_path": str(root), "cache_dir": str(root / "cache"), "output_dir": str(made[key])}
            run(kind.model, "toy", {**options, **places})
        runs[name] = made[key]
        with pytest.MonkeyPatch.context() as patch:
            recommended = []  # by the experiment that is exported: loading it once more takes longer than all else

            def noting(experiment: Any, into: list[Any] = recommended) -> Any:
                into += [experiment.recommend(HISTORIES, k) for k in PLACES]
                return sample_of(experiment)

            patch.setattr(exporting, "sample_of", noting)
            folders[name] = exporting.export(runs[name], root / f"export{number}", lora=kind.lora, cli=kind.changes)
        expected |= {(name, k): lists for k, lists in zip(PLACES, recommended, strict=True)}
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


def test_a_history_that_does_not_fit_is_cut_as_in_the_run(exports: Exports) -> None:
    about = json.loads((exports.folders["paper"] / "recommender.json").read_text())
    words, item = len(about["before"] + about["behind"]), 3 + len(about["between"])
    assert words + item < about["max_length"] < words + 20 * item


def test_the_folder_is_one_of_transformers_and_peft(exports: Exports) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tiger = exports.folders["TIGER"]
    index = json.loads((tiger / "index.json").read_text())
    tokenizer, t5 = AutoTokenizer.from_pretrained(tiger), AutoModelForSeq2SeqLM.from_pretrained(tiger)
    assert len(tokenizer) == t5.config.vocab_size
    ids = tokenizer("<user_0>" + "".join(index["i3"])).input_ids
    assert ids == [len(tokenizer) - 2000, *tokenizer.convert_tokens_to_ids(index["i3"]), tokenizer.eos_token_id]

    beside = exports.folders["beside"]
    lm = AutoModelForCausalLM.from_pretrained(beside)
    tuned = PeftModel.from_pretrained(lm, beside / "adapter")
    assert {name.split(".")[-3] for name in tuned.state_dict() if "lora_" in name} == {"lora_A", "lora_B"}
    assert tuned.peft_config["default"].trainable_token_indices is None

    items = exports.folders["items"]
    tokenizer = AutoTokenizer.from_pretrained(items)
    lm = AutoModelForCausalLM.from_pretrained(items)
    first = json.loads((items / "recommender.json").read_text())["first_item_token"]
    assert tokenizer.convert_tokens_to_ids("<item:i0>") >= first
    assert lm.config.vocab_size == lm.get_output_embeddings().out_features == first + 30


def test_the_card_says_where_the_model_comes_from(exports: Exports) -> None:
    card = (exports.folders["merged"] / "README.md").read_text()
    result = json.loads((exports.runs["merged"] / "result.json").read_text())
    assert result["split_sha256"] in card and f"{result['test_result']['ndcg@10']}" in card
    assert "look it up" in card and "| lora_r | `8` |" in card and "lm_hidden_size" not in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "transformers" and "license" not in header
    assert "100.0% of the top 10" in card


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model\n", ("apache-2.0", "")),
        ("---\nlicense: other\nlicense_name: own\nlicense_link: http://x\n---\n", ("own", "http://x")),
        ("# No header\n", ("", "")),
        ("---\n: [\n---\n", ("", "")),
    ],
)
def test_a_licence_is_what_the_base_model_says(tmp_path: Path, card: str, expected: tuple[str, str]) -> None:
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "LICENSE.txt").write_text("All rights reserved.")
    found = licence_of(str(tmp_path))
    assert found is not None and (found.name, found.link, found.files) == (*expected, ("LICENSE.txt",))
    assert licence_of(None) is None


def test_a_failure_leaves_nothing(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "agreement", lambda *_: 0.5)
    with pytest.raises(UserError, match="50% of the recommendations for 8 users match the run's"):
        exporting.export(exports.runs["TIGER"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told_at_once(exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full, paper, merged = tmp_path / "full", exports.runs["paper"], exports.runs["merged"]
    full.mkdir()
    (full / "mine").touch()
    others = tmp_path / "others"
    others.mkdir()
    (others / "checkpoint").mkdir()
    text = (paper / "config.yaml").read_text()
    (others / "config.yaml").write_text(text.replace("model: LCRec\n", "model: SASRec\n"))
    new = f"--output={tmp_path / 'new'}"
    for argv, message in (
        ([f"--export={tmp_path}", new], "is not the folder of a finished run"),
        ([f"--export={paper}"], "--export needs --output=FOLDER"),
        ([f"--export={paper}", f"--output={full}"], "already exists"),
        ([f"--export={paper}", new, "--export_lora=merged"], "the run has no adapters"),
        ([f"--export={merged}", new, "--export_lora=besides"], "expected merged or beside. Did you mean 'beside'?"),
        ([f"--export={paper}", new, "--eval_prompts=ensemble"], "which one call of generate cannot do"),
        ([f"--export={paper}", new, "--eval_task=fusionseqrec"], "its prompts have the titles"),
        ([f"--export={paper}", new, "--num_levels=3", "--lm_layers=2"], "--lm_layers cannot go with a saved run"),
        ([f"--export={paper}", new, "--model=SASRec"], "--model does not go with --export"),
        ([f"--export={others}", new], "it is a run of SASRec, which generates no items"),
        (["--model=LCRec", "--dataset=toy", new], "--output is an option of --recommend and --export"),
    ):
        assert cli.main(argv) == 2, argv
        assert message in capsys.readouterr().err, argv
    assert not (tmp_path / "new").exists() and [path.name for path in full.iterdir()] == ["mine"]


def test_the_folder_lm_of_a_run_says_where_its_weights_are(exports: Exports) -> None:
    for name in ("paper", "TIGER"):
        assert "--export=RUN_DIR" in (exports.runs[name] / "lm" / "README.md").read_text()
