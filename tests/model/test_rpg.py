"""RPG: its loss and scores against the formulas, the graph search against the whole catalogue, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from single_thread import one_thread  # noqa: F401
from torch.nn import functional

from recbole_lcrec import Recommender
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.data.batches import WindowDataLoader, length_groups
from recbole_lcrec.decoding.code_graph import CodeGraph, graph_search, similar_items
from recbole_lcrec.experiment import Experiment, build, evaluate, load_experiment, run
from recbole_lcrec.utils.errors import UserError

SMALL: dict[str, Any] = {
    **{name: value for name, value in TINY.items() if not name.startswith(("lm_", "task_", "vocab"))},
    "num_levels": 12,
    "codebook_size": 4,
    "rpg_hidden_size": 16,
    "rpg_layers": 1,
    "rpg_heads": 2,
    "rpg_intermediate_size": 16,
    "rpg_dropout": 0.0,
}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    if not (folder / "toy").is_dir():
        write_dataset(folder)
    places = {"data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    return {**SMALL, **places, **changes}


def made(folder: Path, **changes: Any) -> Experiment:
    experiment = build("RPG", "toy", options(folder, **changes))
    model = experiment.model.eval()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return experiment


def reference(model: Any, history: list[int]) -> torch.Tensor:
    """Return the log-probabilities of all codes after a history of item ids, level by level: the paper's formulas."""
    codes = torch.from_numpy(model.catalogue.index.codes)
    index = model.catalogue.index
    items = model.catalogue.text.items
    starts = np.cumsum([0, *index.level_sizes[:-1]])
    rows = index.positions([items[model.catalogue.row_of_id[item]] for item in history])
    vectors = torch.stack([model.codes.weight[codes[row] + torch.from_numpy(starts)].mean(0) for row in rows])
    state = model.transformer(inputs_embeds=vectors[None]).last_hidden_state[0, -1]
    levels = []
    for level, (start, size) in enumerate(zip(starts, index.level_sizes, strict=True)):
        head = state @ model.heads.weight[level] + model.heads.bias[level]
        head = state + head * torch.sigmoid(head)
        book = model.codes.weight[start : start + size]
        levels.append((functional.cosine_similarity(head, book) / 0.03).log_softmax(0))
    return torch.stack(levels)


def test_the_defaults_are_the_published_architecture(tmp_path: Path) -> None:
    data = {name: options(tmp_path)[name] for name in ("data_path", "cache_dir", "output_dir")}
    config = LCRecConfig("RPG", "toy", config_dict=data)
    names = ("rpg_layers", "rpg_hidden_size", "rpg_dropout", "rpg_temperature", "quantizer", "num_levels")
    assert [config[name] for name in names] == [2, 448, 0.5, 0.03, "opq", 32]
    assert config["num_beams"] is None and config["eval_task"] is None, "nothing is generated"


def test_scores_and_loss_are_the_formulas(tmp_path: Path) -> None:
    model = made(tmp_path).model.double()
    batch = next(iter(made(tmp_path).train_data))
    index, items = model.catalogue.index, model.catalogue.text.items
    codes = torch.from_numpy(index.codes_of([items[row] for row in model.catalogue.row_of_id[1:]]))
    losses = []
    with torch.no_grad():
        scores, loss = model.full_sort_predict(batch), model.calculate_loss(batch)
        single = model.predict(batch)
        for row in range(len(batch)):
            length = int(batch["item_length"][row])
            line = [*batch["item_id_list"][row, :length].tolist(), int(batch["item_id"][row])]
            for end in range(1, len(line)):
                levels = reference(model, line[:end])
                losses.append(-levels[torch.arange(12), codes[line[end] - 1]].mean())
            expected = levels[torch.arange(12), codes].sum(dim=1)
            torch.testing.assert_close(scores[row, 1:].double(), expected, rtol=1e-4, atol=1e-3)
            assert float(single[row]) == pytest.approx(float(expected[line[-1] - 1]), rel=1e-4, abs=1e-3)
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert model.loss_weight(batch) == len(losses)


def test_histories_among_much_longer_ones_have_the_states_that_they_have_alone(tmp_path: Path) -> None:
    model = made(tmp_path).model.eval()
    lengths = torch.tensor([1, 2, 1, 8, 1, 2, 1, 1, 1, 3])
    assert len(length_groups(lengths)) > 1
    rows = torch.randint(len(model.catalogue.paths), (10, 8))
    states, after = model.states(rows, lengths), torch.stack(model._after_rows(rows, lengths), dim=1)
    for line, length, found, codes in zip(rows, lengths.tolist(), states, after, strict=True):
        alone = model.states(line[None, :length], torch.tensor([length]))[0]
        torch.testing.assert_close(found[:length], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(codes, torch.cat(model.log_probs(alone[-1:])), rtol=1e-4, atol=1e-4)


def test_windows_cover_every_training_target_once(tmp_path: Path) -> None:
    experiment = made(tmp_path, MAX_ITEM_LIST_LENGTH=3)
    loader = experiment.train_data
    assert isinstance(loader, WindowDataLoader)
    found = []
    for batch in loader:
        for user, line, length, target in zip(
            *(batch[name].tolist() for name in ("user_id", "item_id_list", "item_length", "item_id")), strict=True
        ):
            found += [(user, item) for item in [*line[1:length], target]]
    rows = loader._dataset.inter_feat
    assert sorted(found) == sorted(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))


def test_a_wide_graph_search_finds_what_scoring_everything_finds() -> None:
    rng = torch.Generator().manual_seed(0)
    books = [functional.normalize(torch.randn(6, 5, generator=rng), dim=1) for _ in range(4)]
    codes = torch.stack(torch.unravel_index(torch.randperm(6**4, generator=rng)[:60], (6,) * 4), dim=1)
    neighbours = similar_items(books, codes, 8)
    vectors = torch.cat([book[codes[:, level]] for level, book in enumerate(books)], dim=1)
    similar = (vectors @ vectors.T).fill_diagonal_(-torch.inf)
    torch.testing.assert_close(similar.gather(1, neighbours), similar.topk(8, dim=1).values)
    scores = torch.randn(3, 20, generator=rng) @ vectors.T
    closed = torch.zeros(3, 60, dtype=torch.bool)
    closed[1, scores[1].topk(2).indices] = True
    graph = CodeGraph(neighbours, seed=5)
    items, found = graph_search(graph, lambda places: scores.gather(1, places), closed, beams=60, steps=1)
    expected = scores.masked_fill(closed, -torch.inf).sort(dim=1, descending=True)
    torch.testing.assert_close(found, expected.values)
    assert torch.equal(items[0], expected.indices[0]) and items[1, -2:].tolist() == [-1, -1]
    narrow, _ = graph_search(graph, lambda places: scores.gather(1, places), closed, beams=6, steps=3)
    best = expected.indices[:, :6].tolist()
    hits = [len({*line} & {*wanted}) for line, wanted in zip(narrow.tolist(), best, strict=True)]
    assert sum(hits) >= 15, "of 18: a search is near the best, far from the 1.8 of chance"
    assert all(len({*line}) == 6 for line in narrow.tolist())


@pytest.mark.parametrize("changes", [{}, {"rpg_decoding": "graph", "graph_beams": 12, "graph_edges": 5}])
def test_a_run_is_saved_whole_and_repeats(tmp_path: Path, changes: dict[str, Any]) -> None:
    given = options(tmp_path, exclude_history=True, topk=[5, 10], **changes)
    result = run("RPG", "toy", given)
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    assert result["ranks"]["censored"] == 0 if not changes else result["ranks"]["censored"] > 0
    assert result["index"]["level_sizes"] == [4] * 12
    again = run("RPG", "toy", {**given, "output_dir": str(tmp_path / "second")})
    assert again["test_result"] == result["test_result"]
    loaded = load_experiment(tmp_path / "out")
    items, scores = loaded.recommend([["i3", "i4"], ["i9"]], 8)
    assert scores[0] == sorted(scores[0], reverse=True) and not {"i3", "i4"} & {*items[0]} and "i9" not in items[1]
    recommender = Recommender(loaded)
    assert len(recommender.path_of("i3")) == 12 and recommender.similar_items("i3", 4).source == "texts"
    loaded.add_items({"new": "gadget 0 number 3"}, {"new": "group 0 colour 3"})
    assert loaded.recommend([["i2"]], 5, among=["new", "i1"])[0][0] in (["new", "i1"], ["i1", "new"])
    sampled = evaluate(tmp_path / "out", {"eval_args": {"mode": "uni10"}})
    assert sampled["test_result"]["hit@10"] > result["test_result"]["hit@10"]


def test_a_graph_is_kept_for_the_rows_that_it_was_made_of(tmp_path: Path) -> None:
    model, rows = build("RPG", "toy", options(tmp_path)).model, torch.arange(6)
    graph = model._graph_of(rows)
    assert model._graph_of(rows.clone()) is graph
    assert model._graph_of(rows.flip(0)) is not graph, "as many rows in another order have other neighbours"


def test_it_learns_what_follows_what(tmp_path: Path) -> None:
    result = run("RPG", "toy", options(tmp_path, epochs=20, eval_step=20, learning_rate=0.01, num_levels=8))
    assert result["test_result"]["ndcg@10"] > 0.3, "chance is .15"


def test_wrong_options_are_told_together(tmp_path: Path) -> None:
    wrong = {"rpg_decoding": "graph", "graph_beams": 5}
    with pytest.raises(UserError, match="graph_beams=5: fewer than the longest list in topk"):
        build("RPG", "toy", options(tmp_path, **wrong))
    with pytest.raises(UserError, match="rpg_heads=3: it must divide rpg_hidden_size=16"):
        build("RPG", "toy", options(tmp_path, rpg_heads=3))
