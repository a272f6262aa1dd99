"""TIGER: its vocabulary and inputs, whole runs with either kind of unique paths, and RecBole's interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from single_thread import one_thread  # noqa: F401
from t5_helpers import options
from torch.nn import functional

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.data.batches import DRAW
from recbole_lcrec.experiment import Experiment, build, evaluate, load_experiment, run
from recbole_lcrec.index.catalogue import END_ID, FIRST_CODE_ID, PAD_ID
from recbole_lcrec.model.generative import Request
from recbole_lcrec.model.tiger import user_bucket
from recbole_lcrec.utils.errors import UserError


def made(folder: Path, **changes: Any) -> Experiment:
    experiment = build("TIGER", "toy", options(folder, **changes))
    experiment.model.eval()
    return experiment


GOLDEN = [913, 1723, 855, 1637, 1652]


def test_user_buckets_never_change() -> None:
    """Golden values: a saved model would take users for others if they did."""
    assert [user_bucket(user, 2000) for user in ("1", "196", "A2SUAM1J3GNN3B", "Amélie", "")] == GOLDEN
    assert {user_bucket(str(n), 3) for n in range(50)} == {0, 1, 2}


def test_the_defaults_are_the_published_architecture(tmp_path: Path) -> None:
    data = {name: options(tmp_path)[name] for name in ("data_path", "cache_dir", "output_dir")}
    config = LCRecConfig("TIGER", "toy", config_dict=data)
    names = ("t5_d_model", "t5_layers", "t5_heads", "t5_head_dim", "t5_d_ff", "t5_dropout", "user_buckets")
    assert [config[name] for name in names] == [128, 4, 6, 64, 1024, 0.1, 2000]
    assert (config["num_levels"], config["codebook_size"], config["index_mapping"]) == (3, 256, "digit")
    assert config["quantizer"] == "rqvae" and config["MAX_ITEM_LIST_LENGTH"] == 20


def test_inputs_are_user_history_end(tmp_path: Path) -> None:
    made_ = made(tmp_path)
    model, catalogue = made_.model, made_.model.catalogue
    rows, users = torch.tensor([[3, 5, -1, -1], [7, -1, -1, -1]]), torch.tensor([4, 0])
    ids, mask = model.inputs(rows, torch.tensor([2, 1]), users, [0, 0])
    n_codes = sum(catalogue.index.level_sizes)
    assert catalogue.index.level_sizes == (8, 8, 8, 8) and model.lm.config.vocab_size == FIRST_CODE_ID + n_codes + 2000
    user = FIRST_CODE_ID + n_codes + user_bucket(model.user_names[4], 2000)
    path = catalogue.paths.tolist()
    assert ids.tolist() == [
        [user, *path[3], *path[5], END_ID],
        [PAD_ID, *path[7], END_ID, *[PAD_ID] * 4],
    ]
    assert mask.tolist() == [[1] * 10, [0] + [1] * 5 + [0] * 4]
    starts = FIRST_CODE_ID + np.cumsum([0, 8, 8, 8])
    assert path[3] == (catalogue.index.codes_of([catalogue.text.items[3]])[0] + starts).tolist()


@pytest.mark.parametrize("mapping", ["digit", "optimal"])
def test_a_run_is_saved_whole_and_repeats(tmp_path: Path, mapping: str) -> None:
    given = options(tmp_path, index_mapping=mapping, num_levels=3)
    result = run("TIGER", "toy", given)
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
    assert {path.name for path in out.iterdir()} == names | {"ranks.csv.gz"}
    paths = json.loads((out / "index.json").read_text())
    assert {len(path) for path in paths.values()} == {4 if mapping == "digit" else 3}
    again = evaluate(out)
    assert again["test_result"] == result["test_result"]
    assert again["best_valid_result"] == result["best_valid_result"]
    second = run("TIGER", "toy", {**given, "output_dir": str(tmp_path / "second")})
    assert second["test_result"] == result["test_result"]
    assert second["best_valid_result"] == result["best_valid_result"]
    reference = run("SASRec", "toy", {**given, "output_dir": str(tmp_path / "sasrec"), "epochs": 1})
    assert reference["split_sha256"] == result["split_sha256"]


def test_it_learns_what_follows_what(tmp_path: Path) -> None:
    result = run("TIGER", "toy", options(tmp_path, epochs=12, eval_step=12, train_samples=256, t5_dropout=0.0))
    assert result["test_result"]["ndcg@10"] > 0.25, "chance is .15"


def test_neither_the_batch_nor_its_padding_changes_a_users_result(tmp_path: Path) -> None:
    model = made(tmp_path).model.double()
    requests = [Request(np.arange(n), user=n) for n in (1, 6, 2, 4)]
    rows, scores = model.generate(requests, model._item_trie, 10, 0)
    for number, request in enumerate(requests):
        alone, alone_scores = model.generate([request], model._item_trie, 10, 0)
        assert torch.equal(alone[0], rows[number])
        torch.testing.assert_close(alone_scores[0], scores[number], rtol=0, atol=1e-10)


def test_an_unknown_user_has_no_token_at_all(tmp_path: Path) -> None:
    model = made(tmp_path).model.double()
    history, paths = np.array([2, 9]), torch.from_numpy(model.catalogue.paths[:5])
    tokens = [*model.catalogue.paths[history].ravel().tolist(), END_ID]
    begun = torch.cat([torch.zeros_like(paths[:, :1]), paths[:, :-1]], dim=1)
    logits = (
        model.lm(input_ids=torch.tensor([tokens]).expand(5, -1), decoder_input_ids=begun)
        .logits.log_softmax(-1)
        .detach()
    )
    expected = logits.gather(-1, paths.unsqueeze(-1)).squeeze(-1).sum(1)
    torch.testing.assert_close(model.score([Request(history)], paths[None], 0)[0], expected, rtol=0, atol=1e-10)
    known = model.score([Request(history, user=3)], paths[None], 0)[0]
    assert (known - expected).abs().min() > 1e-6


def test_the_loss_is_the_mean_over_the_codes_of_the_targets(tmp_path: Path) -> None:
    experiment = made(tmp_path)
    model, batch = experiment.model, next(iter(experiment.train_data))
    assert len(batch) == 16 and 0 <= batch[DRAW].min() and batch[DRAW].max() < 1
    catalogue = model.catalogue
    rows = torch.from_numpy(catalogue.row_of_id)[batch["item_id_list"]]
    ids, mask = model.inputs(rows, batch["item_length"], batch["user_id"], [0] * 16)
    targets = torch.from_numpy(catalogue.paths[catalogue.row_of_id[batch["item_id"].numpy()]])
    begun = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
    logits = model.lm(input_ids=ids, attention_mask=mask, decoder_input_ids=begun).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model.calculate_loss(batch), expected)


def test_a_batch_of_eight_equals_eight_accumulated_batches_of_one(tmp_path: Path) -> None:
    states = []
    for size, steps in ((8, 1), (1, 8)):
        sizes = {"train_batch_size": size, "gradient_accumulation_steps": steps, "train_samples": 24}
        experiment = made(tmp_path, **sizes, learner="sgd", t5_dropout=0.0, learning_rate=0.1)
        experiment.trainer._train_epoch(experiment.train_data, 0)
        states.append(experiment.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], atol=1e-6, rtol=1e-5, msg=name)


def test_scores_of_generated_items_are_exact_and_candidates_can_be_ranked(tmp_path: Path) -> None:
    experiment = made(tmp_path, num_beams=12)
    model, interaction = experiment.model, next(iter(experiment.test_data))[0][:3]
    scores = model.full_sort_predict(interaction)
    assert scores.shape == (3, model.n_items)
    for row in range(3):
        top = scores[row].topk(12)
        assert 0 not in top.indices, "the padding item is never recommended"
        rows = {field: interaction[field][row : row + 1].repeat_interleave(12, 0) for field in interaction.columns}
        rows[model.ITEM_ID] = top.indices
        torch.testing.assert_close(model.predict(Interaction(rows)), top.values, atol=1e-4, rtol=1e-4)
    sampled = made(tmp_path, eval_args={"mode": {"valid": "uni20", "test": "uni20"}}).evaluate("test")
    assert sampled is not None and 0 < sampled["hit@10"] <= 1


def test_recommend_add_items_and_a_grown_catalogue(tmp_path: Path) -> None:
    run("TIGER", "toy", options(tmp_path, epochs=1))
    loaded = load_experiment(tmp_path / "out", {"num_beams": 40})
    items, scores = loaded.recommend([["i1", "i2"], ["i5"]], k=5)
    assert [len(line) for line in items] == [5, 5] and all(line == sorted(line, reverse=True) for line in scores)
    loaded.add_items({"new": "gadget of tomorrow"}, {"new": "group 1"})
    everything, _ = loaded.recommend([["i1", "new"]], k=31)
    assert sorted(everything[0]) == sorted([*(f"i{n}" for n in range(30)), "new"])
    assert loaded.recommend([["i1"]], k=3, among=["new"])[0] == [["new"]]
    assert loaded.evaluate("test") is not None
    with (tmp_path / "toy" / "toy.item").open("a", encoding="utf-8") as file:
        file.write("later\tgadget of next year\tgroup 2\n")
    with pytest.raises(UserError, match="later"):
        load_experiment(tmp_path / "out")
    grown = load_experiment(tmp_path / "out", {"index_missing": "add", "num_beams": 31})
    assert "later" in grown.recommend([["i1"]], k=31)[0][0]


def test_stage_index_and_a_ready_index(tmp_path: Path) -> None:
    result = run("TIGER", "toy", options(tmp_path, stage="index", output_dir=str(tmp_path / "index")))
    assert result["index"]["mapping"] == "digit" and (tmp_path / "index" / "report.html").is_file()
    file = tmp_path / "index" / "index.json"
    run("TIGER", "toy", options(tmp_path, index_file=str(file), epochs=1))
    assert (tmp_path / "out" / "index.json").read_text() == file.read_text()
    run("LCRec", "toy", options(tmp_path, index_file=str(file), epochs=1, output_dir=str(tmp_path / "lcrec")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_task": "itemsearch"}, "eval_task=itemsearch, .*asked .* without words"),
        ({"eval_prompts": "all"}, "without words"),
        ({"eval_prompts": [1]}, "without words"),
        ({"base_model": "t5-small"}, "trained from scratch"),
        ({"user_buckets": 0}, "user_buckets is 0; expected a whole number from 1 to 10,000,000"),
        ({"t5_layers": 0}, "t5_layers is 0; expected a whole number from 1"),
        ({"t5_dropout": 1.0}, "t5_dropout is 1.0; expected a number of 0 or more and below 1"),
        ({"train_samples": 0}, "train_samples is 0; expected a whole number of 1 or more"),
        ({"num_beams": 5}, "num_beams is 5"),
    ],
)
def test_wrong_options(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **changes)
