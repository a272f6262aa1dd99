"""P5-CID: prompts in words that name the user, whole runs from scratch and from a T5 checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import save_checkpoint
from single_thread import one_thread  # noqa: F401
from t5_helpers import options, save_t5

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.data.batches import DRAW
from recbole_lcrec.experiment import Experiment, build, evaluate, load_experiment, run
from recbole_lcrec.instruction.p5 import P5_TEMPLATES
from recbole_lcrec.model.generative import Request
from recbole_lcrec.utils.errors import UserError


def made(folder: Path, **changes: Any) -> Experiment:
    experiment = build("P5CID", "toy", options(folder, **changes))
    experiment.model.eval()
    return experiment


def prompt_text(model: Any, request: Request, wording: int) -> str:
    ids, mask = model._request_inputs([request], wording)
    assert mask.all()
    return model.tokenizer.decode(ids[0])


def test_a_prompt_names_the_user_and_the_items(tmp_path: Path) -> None:
    model = made(tmp_path).model
    catalogue, user = model.catalogue, model.user_names[7]
    paths = ["".join(catalogue.index.path(catalogue.text.items[row])) for row in (4, 9)]
    text = prompt_text(model, Request(np.array([4, 9]), user=7), 0)
    assert text == f"<s>Considering that user_{user} has bought {paths[0]} , {paths[1]} , what comes next ?</s>"
    assert "somebody" in prompt_text(model, Request(np.array([4, 9])), 0)
    ids, _ = model._request_inputs([Request(np.array([4]), user=7)], 3)
    whole = model.tokenizer(model.tokenizer.decode(ids[0], skip_special_tokens=False), add_special_tokens=False)
    assert ids[0].tolist() == list(whole.input_ids), "pieces put together are the tokens of the whole prompt"


def test_long_histories_lose_their_oldest_items(tmp_path: Path) -> None:
    model = made(tmp_path, max_length=60).model
    catalogue = model.catalogue
    text = prompt_text(model, Request(np.arange(20), user=1), 1)
    paths = ["".join(catalogue.index.path(item)) for item in catalogue.text.items[:20]]
    assert f"{paths[18]} , {paths[19]} . Name" in text and paths[0] not in text
    with pytest.raises(UserError, match="max_length=32 is too small"):
        made(tmp_path, max_length=32, num_levels=8, codebook_size=8)


@pytest.mark.parametrize(("tasks", "count"), [(["sequential"], 10), (["sequential", "direct"], 15)])
def test_wordings_are_drawn_by_the_rows_own_number(tmp_path: Path, tasks: list[str], count: int) -> None:
    experiment = made(tmp_path, p5_tasks=tasks)
    model, batch, seen = experiment.model, next(iter(experiment.train_data)), []
    model.inputs, plain = lambda *args: seen.extend(args[3]) or plain(*args), model.inputs
    model.calculate_loss(batch)
    assert model.n_wordings == count and len(set(seen)) > 3
    assert seen == [int(draw * count) for draw in batch[DRAW].tolist()]
    assert "{history}" not in "".join(template.instruction for template in P5_TEMPLATES["direct"])


@pytest.mark.parametrize(("quantizer", "mapping"), [("cid", "optimal"), ("rkmeans", "digit")])
def test_a_run_is_saved_whole_and_repeats(tmp_path: Path, quantizer: str, mapping: str) -> None:
    given = options(tmp_path, index_mapping=mapping, quantizer=quantizer)
    result = run("P5CID", "toy", given)
    out = tmp_path / "out"
    names = {
        "config.yaml",
        "manifest.json",
        "result.json",
        "run.log",
        "checkpoint",
        "index.json",
        "quantizer",
        "lm",
        "tensorboard",
        "ranks.csv.gz",
        "report.html",
    }
    assert {path.name for path in out.iterdir()} == names | {"tokenizer", "ranks.csv.gz"}
    assert result["index"]["quantizer"] == quantizer
    again = evaluate(out)
    assert again["test_result"] == result["test_result"]
    assert again["best_valid_result"] == result["best_valid_result"]
    second = run("P5CID", "toy", {**given, "output_dir": str(tmp_path / "second")})
    assert second["test_result"] == result["test_result"]
    reference = run("TIGER", "toy", {**given, "output_dir": str(tmp_path / "tiger"), "epochs": 1})
    assert reference["split_sha256"] == result["split_sha256"]


def test_all_wordings_are_evaluated_one_by_one(tmp_path: Path) -> None:
    result = run("P5CID", "toy", options(tmp_path, epochs=1, eval_prompts="all"))
    each = result["test_by_prompt"]["prompts"]
    assert list(each) == [str(n) for n in range(10)] and result["eval_task"] == "seqrec"
    assert evaluate(tmp_path / "out", {"eval_prompts": [7]})["test_result"] == each["7"]
    assert evaluate(tmp_path / "out", {"eval_prompts": "ensemble"})["test_result"]["hit@10"] >= 0


def test_neither_the_batch_nor_its_padding_changes_a_users_result(tmp_path: Path) -> None:
    model = made(tmp_path).model.double()
    requests = [Request(np.arange(n), user=n) for n in (1, 6, 2)]
    rows, scores = model.generate(requests, model._item_trie, 10, 2)
    for number, request in enumerate(requests):
        alone, alone_scores = model.generate([request], model._item_trie, 10, 2)
        assert torch.equal(alone[0], rows[number])
        torch.testing.assert_close(alone_scores[0], scores[number], rtol=0, atol=1e-10)


def test_a_t5_checkpoint_is_extended_trained_and_reloaded_without_it(tmp_path: Path) -> None:
    base = save_t5(tmp_path / "t5")
    given = options(tmp_path, base_model=str(base), epochs=1, train_samples=32, max_length=320)
    result = run("P5CID", "toy", given)
    config = json.loads((tmp_path / "out" / "lm" / "config.json").read_text())
    assert config["d_model"] == 24 and config["feed_forward_proj"] == "gated-gelu"
    shutil.rmtree(base)
    loaded = load_experiment(tmp_path / "out")
    assert loaded.evaluate("test") == result["test_result"]
    assert len(loaded.model.tokenizer) == loaded.model.lm.get_input_embeddings().num_embeddings


def test_new_items_need_an_index_that_knows_neighbours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="new items cannot be placed"):
        made(tmp_path).add_items({"new": "gadget of tomorrow"})
    experiment = made(tmp_path, quantizer="rkmeans")
    experiment.add_items({"new": "gadget of tomorrow"})
    assert experiment.recommend([["i1", "new"]], k=1, among=["new"])[0] == [["new"]]


def test_a_base_model_brings_the_papers_recipe_and_options_still_win(tmp_path: Path) -> None:
    data = {"data_path": options(tmp_path)["data_path"], "base_model": "t5-small"}
    config = LCRecConfig("P5CID", "toy", config_dict=data, cli={"epochs": 3})
    assert config["train_samples"] is None and config["learning_rate"] == 0.001 and config["epochs"] == 3
    assert config["quantizer"] == "cid" and config["max_length"] == 512


def test_other_models_are_no_t5(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "gpt2", "gpt2")
    with pytest.raises(UserError, match="expected a T5 .*'gpt2'"):
        made(tmp_path, base_model=str(base))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p5_tasks": ["sequentail"]}, "expected a list of sequential or direct"),
        ({"p5_tasks": ["direct"]}, "expected 'sequential' among them"),
        ({"eval_task": "itemsearch"}, "eval_task: expected one of seqrec"),
        ({"eval_prompts": [10]}, "from 0 to 9"),
        ({"base_model": "no/such-model"}, "base_model=no/such-model"),
    ],
)
def test_wrong_options(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **changes)
