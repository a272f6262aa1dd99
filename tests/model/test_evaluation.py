"""Other tasks and wordings at evaluation: search by the target's intention, several prompts, ensembles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset

from recbole_lcrec.evaluation.queries import EVAL_TEMPLATES
from recbole_lcrec.experiment import Experiment, build, evaluate, run
from recbole_lcrec.utils.errors import UserError


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {**TINY, "data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache")}
    return {**given, "output_dir": str(folder / "out"), **changes}


def made(folder: Path, **changes: Any) -> Experiment:
    experiment = build("LCRec", "toy", options(folder, **changes))
    experiment.model.eval()
    return experiment


def test_all_prompts_are_evaluated_one_by_one(tmp_path: Path) -> None:
    result = run("LCRec", "toy", options(tmp_path, epochs=1, eval_prompts=[0, 5, 2]))
    each = result["test_by_prompt"]["prompts"]
    assert list(each) == ["0", "5", "2"] and result["eval_task"] == "seqrec" and "kind" not in result
    values = [metrics["ndcg@10"] for metrics in each.values()]
    assert result["test_result"]["ndcg@10"] == pytest.approx(np.mean(values))
    assert result["test_by_prompt"]["ndcg@10"] == {"lowest": min(values), "highest": max(values)}
    again = evaluate(tmp_path / "out", {"eval_prompts": [5]})
    assert again["test_result"] == each["5"] and "test_by_prompt" not in again
    assert "lowest" in (tmp_path / "out" / "run.log").read_text()


def test_an_ensemble_ranks_by_mean_probability(tmp_path: Path) -> None:
    experiment = made(tmp_path, eval_prompts="ensemble", num_beams=30)
    model = experiment.model
    with torch.no_grad():
        batch = next(iter(experiment.test_data))[0][:3]
        requests = model._requests(batch)
        rows, scores = model.best(requests, model._item_trie, 30)  # every item is among every wording's beams
        assert len(model.prompts) == 17 and sorted(rows[0].tolist()) == list(range(30))
        mean = torch.zeros(3, 30, dtype=torch.float64)
        for prompt in model.prompts:
            found, values = model.generate(requests, model._item_trie, 30, prompt)
            mean.scatter_add_(1, found, values.double().exp() / 17)
        torch.testing.assert_close(scores, mean.log().gather(1, rows).float(), atol=1e-4, rtol=1e-4)
        assert (scores[:, :-1] >= scores[:, 1:]).all()
        narrow, some = model.best(requests, model._item_trie, 10)
        assert narrow.shape == (3, 10) and torch.isfinite(some).all()
        assert all(len(set(line)) == 10 for line in narrow.tolist())


def test_search_asks_with_the_targets_own_intention_and_says_so(tmp_path: Path) -> None:
    result = run("LCRec", "toy", options(tmp_path, epochs=1, eval_task="itemsearch"))
    assert result["kind"].startswith("search, not recommendation")
    log = (tmp_path / "out" / "run.log").read_text()
    assert "Search, not recommendation: 80 of 80 evaluated users have a query." in log
    assert "search, not recommendation: users ask" in log
    assert json.loads((tmp_path / "out" / "result.json").read_text())["kind"] == result["kind"]
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]


def test_the_prompt_of_each_task_holds_its_text(tmp_path: Path) -> None:
    for task, words in (("itemsearch", "request"), ("fusionseqrec", "gadget"), ("seqrec", "in order")):
        experiment = made(tmp_path, eval_task=task)
        model = experiment.model
        request = model._requests(next(iter(experiment.test_data))[0][:1])[0]
        assert bool(request.query) == (task == "itemsearch")
        text = model.tokenizer.decode(model._prompt(request, model._template(request, 0)))
        assert words in text and request.query in text
        assert ("<a_" in text) == (task == "seqrec")


def test_users_without_a_query_are_asked_as_in_seqrec(tmp_path: Path) -> None:
    experiment = made(tmp_path, eval_task="itemsearch")
    request = experiment.model._requests(next(iter(experiment.test_data))[0][:1])[0]
    without = type(request)(request.history)
    assert experiment.model._template(without, 0) == EVAL_TEMPLATES["seqrec"][0]
    assert experiment.recommend([["i1"]], 3)[0][0]  # recommending is no search


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_task": "item2index"}, "eval_task is item2index; expected seqrec"),
        ({"eval_prompts": [17]}, "from 0 to 16"),
        ({"eval_prompts": [0, 0]}, "given once"),
        ({"eval_prompts": []}, "eval_prompts"),
        ({"eval_prompts": "some"}, "eval_prompts"),
        ({"eval_task": "itemsearch", "user_text": "none"}, "no user has a query"),
    ],
)
def test_wrong_options(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **changes)
