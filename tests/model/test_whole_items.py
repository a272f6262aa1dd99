"""LCRec that also judges whole items: its second loss, its scores, and what item vectors know of the embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, save_checkpoint, write_dataset
from torch.nn import functional

from recbole_lcrec.experiment import Experiment, build, load_experiment, run
from recbole_lcrec.instruction.loader import collate
from recbole_lcrec.instruction.prompts import Context, are_whole_items, whole_items
from recbole_lcrec.instruction.templates import LCREC_TEMPLATES
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import EMBEDDINGS


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    tasks = {"tasks": ["nextitem", "item2index"], "task_samples": 32, "eval_task": "nextitem", "history_separator": ""}
    folders = {"data_path": str(write_dataset(folder)), "output_dir": str(folder / "out")}
    heads = {"history_input": "item", "history_loss_weight": 0.5, "item_loss_weight": 2.0, "item_score_weight": 0.25}
    return {**TINY, **tasks, **folders, **heads, "cache_dir": str(folder / "cache"), **changes}


def made(folder: Path, **changes: Any) -> Experiment:
    experiment = build("LCRec", "toy", options(folder, **changes))
    experiment.model.eval()
    return experiment


@pytest.mark.parametrize("normalization", ["vocabulary", "children"])
def test_the_second_loss_is_that_of_the_next_item_among_all(tmp_path: Path, normalization: str) -> None:
    both, paths_alone = (
        made(tmp_path, loss_normalization=normalization, item_features=True, **changes).model.double()
        for changes in ({}, {"item_loss_weight": 0.0, "item_score_weight": 0.0})
    )
    paths_alone.load_state_dict(both.state_dict())
    builder = both.catalogue.builder
    context, title = Context(np.array([2, 7, 5]), 9), Context(np.zeros(0, np.int64), 4)
    next_item, item2index = LCREC_TEMPLATES["nextitem"][0], LCREC_TEMPLATES["item2index"][0]
    batch = collate([builder.sample(next_item, context), builder.sample(item2index, title)], builder.pad_id)
    inputs, losses = both.lm.get_input_embeddings(), []
    vectors = inputs(whole_items(torch.arange(30)))
    assert vectors.shape == (30, 16)
    for prompt, targets in (
        (builder.prompt(next_item, context), [(0, 7, 0.5), (1, 5, 0.5), (2, 9, 1.0)]),
        (builder.prompt(item2index, title), [(-1, 4, 1.0)]),
    ):
        states = both.lm.model(input_ids=torch.from_numpy(prompt).long().unsqueeze(0)).last_hidden_state[0]
        places = np.flatnonzero(are_whole_items(prompt)) if targets[0][0] == 0 else [len(prompt) - 1]
        for place, row, weight in targets:
            logits = states[places[place]] @ vectors.T
            losses.append(weight * functional.cross_entropy(logits, torch.tensor(row)))
    weights = batch["loss_weights"][:, 1:].sum()
    expected = paths_alone.calculate_loss(batch) + 2.0 * sum(losses) / weights
    torch.testing.assert_close(both.calculate_loss(batch), expected, atol=1e-6, rtol=1e-6, check_dtype=False)


def test_a_batch_without_items_has_no_second_loss(tmp_path: Path) -> None:
    model = made(tmp_path).model
    builder, template = model.catalogue.builder, LCREC_TEMPLATES["index2item"][0]
    batch = collate([builder.sample(template, Context(np.zeros(0, np.int64), row)) for row in (3, 8)], builder.pad_id)
    loss = model.calculate_loss(batch)
    model._item_loss_weight = 0.0
    assert loss.isfinite() and loss == model.calculate_loss(batch)


def test_item_vectors_know_the_embeddings(tmp_path: Path) -> None:
    model = made(tmp_path, item_features=True).model
    inputs, catalogue = model.lm.get_input_embeddings(), model.catalogue
    embeddings = torch.from_numpy(catalogue.indexed.embeddings)
    codes = inputs.weight[torch.from_numpy(catalogue.paths)].sum(1)
    added = embeddings @ inputs.of_features.weight.T
    torch.testing.assert_close(inputs.vectors(), codes + added)
    torch.testing.assert_close(inputs.vectors(torch.tensor([3, 1])), (codes + added)[[3, 1]])
    size, expected = added.square().sum(1).mean().sqrt(), inputs.weight.std() * 16**0.5
    assert 0.5 < size / expected < 2, "about as much as a code's embedding"


@pytest.mark.parametrize("base_model", [None, "gpt2"])
def test_a_run_ranks_by_both_and_comes_back(
    tmp_path: Path, base_model: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(tmp_path, item_features=True, item_prefixes=True, num_beams=30)
    if base_model:
        config |= {"base_model": str(save_checkpoint(tmp_path / "lm", base_model)), "max_length": 400}
    result = run("LCRec", "toy", config)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["item_score_weight"] == 0.25
    loaded = load_experiment(tmp_path / "out")
    assert loaded.evaluate("test") == {name: pytest.approx(value) for name, value in result["test_result"].items()}
    # all items by their path alone, by the whole alone, and by both
    histories, names = [["i1", "i2"], ["i5", "i9", "i3"]], [f"i{n}" for n in range(30)]
    by = {}
    for weight in (0.0, 1.0, 0.25):
        loaded.model.item_score_weight = weight
        lists, scores = loaded.recommend(histories, k=30)
        of_item = [dict(zip(*pair, strict=True)) for pair in zip(lists, scores, strict=True)]
        by[weight] = torch.tensor([[values[name] for name in names] for values in of_item])
    torch.testing.assert_close(by[0.25], 0.75 * by[0.0] + 0.25 * by[1.0], atol=1e-4, rtol=0)
    torch.testing.assert_close(by[1.0].exp().sum(1), torch.ones(2), atol=1e-4, rtol=0)
    assert not torch.allclose(by[0.0], by[1.0], atol=1e-2)
    # new items are judged by what is known of them
    before = loaded.recommend(histories, k=30)
    loaded.add_items({"new": "gadget 2 number 99"}, {"new": "group 2 colour 1"})
    assert loaded.recommend(histories, k=30, among=names)[0] == before[0]
    loaded.model.item_score_weight = 1.0
    vectors, every = loaded.model._item_vectors(), [*names, "new"]
    states: list[torch.Tensor] = []
    products = "recbole_lcrec.model.item_inputs.item_products"
    monkeypatch.setattr(products, lambda of, items: (states.append(of), of @ items.T)[1])
    (items,), (scores,) = loaded.recommend([["i1", "new"]], k=31)
    expected = (states[0] @ vectors.T).log_softmax(-1)[0]
    assert sorted(items) == sorted(every)
    torch.testing.assert_close(
        torch.tensor([dict(zip(items, scores, strict=True))[item] for item in every]), expected, atol=1e-4, rtol=0
    )


def test_a_grown_catalogue(tmp_path: Path) -> None:
    run("LCRec", "toy", options(tmp_path, item_features=True, epochs=1))
    items = tmp_path / "toy" / "toy.item"
    items.write_text(items.read_text() + items.read_text().splitlines()[1].replace("i0", "brandnew", 1) + "\n")
    grown = load_experiment(tmp_path / "out", {"cold_items": True, "index_missing": "add"}).model
    first, last = (grown.catalogue.embeddings[grown.catalogue.text.rows[item]] for item in ("i0", "brandnew"))
    np.testing.assert_allclose(first, last, atol=1e-5)
    assert grown.lm.get_input_embeddings().features.shape[0] == 31


def test_candidates_and_search_agree(tmp_path: Path) -> None:
    model = made(tmp_path, num_beams=30).model.double()
    data = made(tmp_path).test_data
    batch = next(iter(data))[0]
    top = model.full_sort_top(batch)
    for user in range(3):
        alone = batch[[user] * 4]
        alone["item_id"] = top.items[user, :4]
        torch.testing.assert_close(model.predict(alone), top.scores[user, :4], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"history_input": "tokens"},
            "item_loss_weight is about the vectors of items. Use it with history_input=item",
        ),
        (
            {"history_input": "tokens", "item_features": True, "item_loss_weight": 0.0, "item_score_weight": 0.0},
            "item_features is about the vectors of items",
        ),
        ({"item_loss_weight": 0.0}, "item_score_weight=0.25: with item_loss_weight=0 the model never learns"),
        ({"item_score_weight": 1.5}, "item_score_weight is 1.5; expected a number from 0 to 1"),
        ({"item_loss_weight": -1.0}, "item_loss_weight is -1.0; expected a number of 0 or more"),
        ({"item_features": True, "quantizer": "random"}, "with quantizer=random there are none"),
        ({"item_features": True, "index_file": "an.index.json"}, "with index_file=.*an.index.json there are none"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **changes)


def test_another_run_in_the_folder_leaves_no_embeddings_behind(tmp_path: Path) -> None:
    run("LCRec", "toy", options(tmp_path, item_features=True, epochs=1))
    assert (tmp_path / "out" / EMBEDDINGS).is_file()
    run("LCRec", "toy", options(tmp_path, epochs=1))
    assert not (tmp_path / "out" / EMBEDDINGS).exists()


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_broken_embeddings_of_a_run(tmp_path: Path, damage: str) -> None:
    run("LCRec", "toy", options(tmp_path, item_features=True, epochs=1))
    file = tmp_path / "out" / EMBEDDINGS
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "gone":
        file.unlink()
    else:
        from safetensors.numpy import save_file

        save_file({"embeddings": np.zeros((7, 4), np.float32)}, file)
    expected = {
        "cut": "cannot be read",
        "other": r"one row per item of the run's index, 30, found \[7, 4\]",
        "gone": "the run has no embeddings.safetensors. Bring the file back",
    }
    with pytest.raises(UserError, match="embeddings.safetensors: the saved run has changed"):
        load_experiment(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()  # as in runs of earlier versions
    with pytest.raises(UserError, match=expected[damage]):
        load_experiment(tmp_path / "out")
