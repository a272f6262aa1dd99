"""RecBole's prediction interface around generation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fakes import TINY, write_dataset
from recbole.data.interaction import Interaction

from recbole_lcrec.experiment import Experiment, build
from recbole_lcrec.utils.errors import UserError


@pytest.fixture
def made(tmp_path: Path) -> Experiment:
    config = {**TINY, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    experiment = build("LCRec", "toy", {**config, "cache_dir": str(tmp_path / "cache"), "num_beams": 12})
    experiment.model.eval()
    return experiment


@torch.no_grad()
def test_generated_items_are_scored_exactly_and_the_rest_lies_below(made: Experiment) -> None:
    interaction = next(iter(made.test_data))[0][:4]
    scores = made.model.full_sort_predict(interaction)
    assert scores.shape == (4, made.model.n_items)
    for row in range(4):
        top = scores[row].topk(12)
        assert (scores[row] < top.values[-1]).sum() == made.model.n_items - 12
        assert 0 not in top.indices, "the padding item is never recommended"
        rows = {field: interaction[field][row : row + 1].repeat_interleave(12, 0) for field in interaction.columns}
        rows[made.model.ITEM_ID] = top.indices
        exact = made.model.predict(Interaction(rows))
        torch.testing.assert_close(exact, top.values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", ["seqrec", "fusionseqrec", "itemsearch"])
def test_who_is_asked_together_changes_nothing(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**TINY, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    made = build("LCRec", "toy", {**config, "cache_dir": str(tmp_path / "cache"), "eval_task": task})
    made.model.lm.double()
    made.model.eval()
    interaction = next(iter(made.test_data))[0]
    requests = made.model._requests(interaction)
    assert len({len(request.history) for request in requests}) > 3
    together = made.model.generate(requests, made.model._item_trie, 10, 0)
    alone = [made.model.generate([request], made.model._item_trie, 10, 0) for request in requests]
    assert torch.equal(together[0], torch.cat([rows for rows, _ in alone]))
    torch.testing.assert_close(together[1], torch.cat([scores for _, scores in alone]), atol=1e-9, rtol=0)
    monkeypatch.setattr("recbole_lcrec.model.lcrec.prompts_at_once", lambda *sizes: 3)
    batched = made.model.generate(requests, made.model._item_trie, 10, 0)
    torch.testing.assert_close(batched, together, atol=1e-9, rtol=0)
    paths = torch.from_numpy(made.model.catalogue.paths[:4]).expand(len(requests), -1, -1)
    scores = made.model.score(requests, paths, 0)
    for number in (0, 7):
        exact = made.model.score([requests[number]], paths[:1], 0)[0]
        torch.testing.assert_close(scores[number], exact, atol=1e-9, rtol=0)


def test_dense_scores_give_the_same_metrics(made: Experiment) -> None:
    metrics = made.evaluate("test")
    made.trainer.eval_collector.reads_top_items_only = lambda: False
    assert made.evaluate("test") == metrics


def test_softmax_over_the_levels_codes(tmp_path: Path) -> None:
    config = {**TINY, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    config |= {"cache_dir": str(tmp_path / "cache"), "num_beams": 30}
    whole = build("LCRec", "toy", config)
    level = build("LCRec", "toy", {**config, "score_normalization": "level"})
    interaction = next(iter(whole.test_data))[0][:4]
    of_level, of_all = ([math.exp(s) for s in made.recommend([["i1", "i2"]], k=30)[1][0]] for made in (level, whole))
    assert sum(of_all) < sum(of_level) < 1, "words do not compete"
    assert (level.model.predict(interaction) > whole.model.predict(interaction)).all()


def test_candidate_evaluation_works(tmp_path: Path) -> None:
    config = {**TINY, "data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    mode = {"mode": {"valid": "uni20", "test": "uni20"}}
    made = build("LCRec", "toy", {**config, "cache_dir": str(tmp_path / "cache"), "eval_args": mode})
    result = made.evaluate("test")
    assert result is not None and 0 < result["hit@10"] <= 1


def test_recommend(made: Experiment) -> None:
    items, scores = made.recommend([["i1", "i2"], ["i5"]], k=5)
    assert [len(line) for line in items] == [5, 5] and all(item.startswith("i") for line in items for item in line)
    assert all(line == sorted(line, reverse=True) for line in scores)
    for histories, expected in (
        ([["nobody"]], "nobody"),
        ([[]], "of them empty"),
        (["i1"], "lists of item tokens"),
    ):
        with pytest.raises(UserError, match=expected):
            made.recommend(histories)


def test_items_without_interactions_can_be_recommended(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    with (tmp_path / "toy" / "toy.item").open("a", encoding="utf-8") as file:
        file.write("new1\tgadget of tomorrow\tgroup 9\nnew2\t\t\n")
    config = {**TINY, "data_path": str(tmp_path), "output_dir": str(tmp_path / "out")}
    made = build("LCRec", "toy", {**config, "cache_dir": str(tmp_path / "cache"), "num_beams": 32})
    assert {"new1", "new2"} <= set(made.model.catalogue.index.items)
    items, _ = made.recommend([["i1", "new1"]], k=32)
    assert len(set(items[0])) == 32 and {"new1", "new2"} <= set(items[0])
    assert made.evaluate("test") is not None  # evaluation ranks the items that all models know
