"""TALLRec: one question per candidate, answered Yes or No; and the protocol of models that rank candidates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from candidate_helpers import UNI20, candidates_of, made, options, plain_log_probs
from fakes import save_checkpoint
from recbole.data.interaction import Interaction

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.experiment import evaluate, load_experiment, run
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.sources import NO, YES
from recbole_lcrec.instruction.templates import YESNO
from recbole_lcrec.utils.errors import UserError

PROMPT = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
A user has enjoyed these items, oldest first: "gadget 0 number 1", "gadget 0 number 4". Answer Yes or No: will the \
user enjoy "gadget 5 number 27"?

### Response:
"""


def test_the_prompt_and_its_labels(tmp_path: Path) -> None:
    builder = made("TALLRec", tmp_path).model.catalogue.builder
    decode = builder.tokenizer.decode
    for answer in (YES, NO):
        context = Context(np.array([1, 4]), candidate=27, answer=answer)
        sample = builder.sample(YESNO[0], context)
        assert decode(sample.ids[sample.weights == 0], skip_special_tokens=True) == PROMPT
        assert decode(sample.ids[sample.weights == 1]) == answer + "</s>"
        np.testing.assert_array_equal(sample.ids[sample.weights == 0], builder.prompt(YESNO[0], context))
        pieces = [builder.until_candidate(YESNO[0], context), builder.from_candidate(YESNO[0], 27)]
        np.testing.assert_array_equal(np.concatenate(pieces), builder.prompt(YESNO[0], context))


def test_scores_are_the_log_odds_of_plain_forwards(tmp_path: Path) -> None:
    model = made("TALLRec", tmp_path).model
    builder = model.catalogue.builder
    histories = [np.array([3, 4, 5]), np.array([9]), np.arange(20)]
    candidates = [np.array([6, 7, 29]), np.array([0, 10]), np.array([20])]
    yes, no = (int(builder.response(YESNO[0], Context(histories[0], answer=word))[0]) for word in (YES, NO))
    for history, some, scores in zip(histories, candidates, model.score(histories, candidates), strict=True):
        for row, score in zip(some.tolist(), scores.tolist(), strict=True):
            last = plain_log_probs(model, builder.prompt(YESNO[0], Context(history, candidate=row)))[-1]
            assert score == pytest.approx(float(last[yes] - last[no]), abs=1e-4)


def test_a_batch_changes_nothing_and_rows_may_come_in_any_order(tmp_path: Path) -> None:
    experiment = made("TALLRec", tmp_path)
    batch = next(iter(experiment.test_data))[0]
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))[:30]
    with torch.no_grad():
        whole = experiment.model.predict(batch)
        shuffled = experiment.model.predict(batch[order])
        alone = torch.cat([experiment.model.predict(batch[row : row + 1]) for row in order[:5].tolist()])
    torch.testing.assert_close(shuffled, whole[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, whole[order[:5]], atol=1e-5, rtol=1e-5)


def test_negatives_are_drawn_anew_and_are_never_training_items_of_the_user(tmp_path: Path) -> None:
    experiment = made("TALLRec", tmp_path, task_samples=None)
    dataset = experiment.train_data._dataset
    sequences, samples = dataset.sequences(), experiment.train_data.samples
    stream = samples.streams[0]
    feat, row_of_id = dataset.inter_feat, dataset.catalogue.row_of_id
    taken: dict[int, set[int]] = {}
    for user, item, history in zip(
        feat["user_id"].tolist(), feat["item_id"].tolist(), feat["item_id_list"].tolist(), strict=True
    ):
        taken.setdefault(user, set()).update(row_of_id[[i for i in [item, *history] if i]].tolist())
    users = feat["user_id"].tolist()  # in the order of the sequences: both are sorted by user and time
    drawn: dict[int, set[int]] = {}
    for epoch in range(4):
        rows = []
        for row, _, context in stream.draw(epoch):
            rows.append(row)
            if row % 2 == 0:
                assert context.answer == YES and context.candidate == sequences.targets[row // 2]
            else:
                assert context.answer == NO and context.candidate not in taken[users[row // 2]]
                drawn.setdefault(row, set()).add(int(context.candidate))
        assert sorted(rows) == list(range(2 * len(sequences.targets)))
    assert sum(len(items) for items in drawn.values()) > 3 * len(drawn), "another item each epoch"
    again = made("TALLRec", tmp_path, task_samples=None).train_data.samples.streams[0]
    assert [c.candidate for *_, c in again.draw(3)] == [c.candidate for *_, c in stream.draw(3)]


def test_every_free_item_is_drawn_as_often_as_any_other(tmp_path: Path) -> None:
    source = made("TALLRec", tmp_path).train_data.samples.streams[0].source
    taken = set(source._taken[0].tolist())
    free = [row for row in range(30) if row not in taken]
    draws = (np.arange(len(free)) + 0.5) / len(free)
    assert [source.context(1, draw).candidate for draw in draws] == free


def test_a_user_who_has_everything_is_asked_about_nothing_else(tmp_path: Path) -> None:
    given = options(tmp_path)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"all\ti{n % 30}\t{n}" for n in range(33)]
    lines += [f"u{user}\ti{(user + time) % 30}\t{time}" for user in range(9) for time in range(5)]
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    from recbole_lcrec.experiment import build

    stream = build("TALLRec", "toy", {**given, "task_samples": None}).train_data.samples.streams[0]
    assert len(stream) == 2 * 30 + 9 * 2 * 2 - 30  # the first user's 30 samples have no counterpart


def test_a_run_can_be_loaded_and_evaluated_again(tmp_path: Path) -> None:
    result = run("TALLRec", "toy", options(tmp_path))
    assert result["candidates"] == UNI20["mode"] and result["tasks"] == {"yesno": 64} and result["index"] == {}
    log = (tmp_path / "out" / "run.log").read_text()
    assert "ranks candidates (validation: uni20, test: uni20)" in log and "not the whole catalogue" in log
    assert json.loads((tmp_path / "out" / "result.json").read_text())["candidates"] == UNI20["mode"]
    again = evaluate(tmp_path / "out")
    assert again["test_result"] == result["test_result"]
    assert again["best_valid_result"] == result["best_valid_result"]
    second = run("TALLRec", "toy", options(tmp_path, output_dir=str(tmp_path / "second")))
    assert second["test_result"] == result["test_result"]
    items, scores = load_experiment(tmp_path / "out").recommend([["i1", "i2"], ["i9"]], 2, among=["i3", "i4", "i7"])
    assert [len(line) for line in items] == [2, 2] and set(items[0]) < {"i3", "i4", "i7"}
    assert all(line == sorted(line, reverse=True) for line in scores)


def test_the_catalogue_as_a_whole_is_refused(tmp_path: Path) -> None:
    for mode in ("full", "labeled", {"valid": "uni20", "test": "full"}):
        with pytest.raises(UserError, match=r"mode: \{valid: uni100, test: uni100\}"):
            made("TALLRec", tmp_path, eval_args={"mode": mode})
    experiment = made("TALLRec", tmp_path)
    with pytest.raises(UserError, match=r"among=\[\.\.\.\]"):
        experiment.recommend([["i1"]], 3)
    with pytest.raises(UserError, match="cannot rank the whole catalogue"):
        experiment.model.full_sort_predict(next(iter(experiment.test_data))[0])
    with pytest.raises(UserError, match="no item index"):
        experiment.add_items({"new": "a title"})


def test_uni100_is_the_default(tmp_path: Path) -> None:
    given = {name: value for name, value in options(tmp_path).items() if name != "eval_args"}
    for model in ("TALLRec", "InstructRec"):
        config = LCRecConfig(model, "toy", config_dict=given)
        assert config["eval_args"]["mode"] == {"valid": "uni100", "test": "uni100"}
        assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert LCRecConfig("SASRec", "toy", config_dict=given)["eval_args"]["mode"] == {"valid": "full", "test": "full"}


def test_all_models_are_asked_about_the_same_candidates(tmp_path: Path) -> None:
    asked = {}
    for model in ("SASRec", "LCRec", "TALLRec", "InstructRec"):
        changes: dict[str, Any] = {"output_dir": str(tmp_path / model)}
        if model == "LCRec":
            changes["task_samples"] = 16
        asked[model] = candidates_of(made(model, tmp_path, **changes))
    assert len(asked["SASRec"]) == 40 * 21
    assert all(pairs == asked["SASRec"] for pairs in asked.values())
    one_by_one = made("TALLRec", tmp_path, eval_batch_size=7)
    assert candidates_of(one_by_one) == asked["SASRec"]


def test_items_without_a_title_are_called_by_their_token(tmp_path: Path) -> None:
    given = options(tmp_path)
    path = tmp_path / "toy" / "toy.item"
    path.write_text(path.read_text().replace("gadget 5 number 27\tgroup 5 colour 2", "\t"))
    from recbole_lcrec.experiment import build

    builder = build("TALLRec", "toy", given).model.catalogue.builder
    assert 'enjoy "item i27"?' in builder.tokenizer.decode(
        builder.prompt(YESNO[0], Context(np.array([1]), candidate=27))
    )
    path.unlink()
    with pytest.raises(UserError, match="TALLRec reads the items' titles"):
        build("TALLRec", "toy", given)


def test_histories_that_do_not_fit_lose_their_oldest_items_alike_for_all_candidates(tmp_path: Path) -> None:
    model = made("TALLRec", tmp_path, max_length=110, vocab_size=700).model
    builder = model.catalogue.builder
    prefix = builder.until_candidate(YESNO[0], Context(np.arange(20), candidate=model._longest))
    text = builder.tokenizer.decode(prefix)
    assert "number 19" in text and "number 0" not in text
    assert len(prefix) + len(builder.from_candidate(YESNO[0], model._longest)) <= 110
    scores = model.score([np.arange(20)] * 2, [np.array([21, 22, 23]), np.array([22])])
    assert scores[0][1] == pytest.approx(float(scores[1][0]), abs=1e-5)


@pytest.mark.parametrize(("kind", "tuning"), [("llama", "lora"), ("gpt2", "full")])
def test_base_models(tmp_path: Path, kind: str, tuning: str) -> None:
    base = str(save_checkpoint(tmp_path / kind, kind))
    given = options(tmp_path, base_model=base, tuning=tuning, lora_r=2, max_length=400, epochs=1)
    result = run("TALLRec", "toy", given)
    counts = result["parameters"]
    assert counts["trainable"] < counts["total"] / 3 if tuning == "lora" else counts["trainable"] == counts["total"]
    assert load_experiment(tmp_path / "out").evaluate("test") == result["test_result"]
    config = LCRecConfig("TALLRec", "toy", config_dict={**given, "max_length": 300})
    assert config["gradient_accumulation_steps"] == 16 and config["max_length"] == 300 and config["lora_alpha"] == 16


def test_what_can_be_learned_is_learned(tmp_path: Path) -> None:
    """Saws are taken and poems are not, so the candidate's title decides."""
    given = options(tmp_path, epochs=10, eval_step=10, task_samples=512, vocab_size=700, learning_rate=0.003)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"u{u}\ti{(u + t * (1 + u % 3)) % 8}\t{t}" for u in range(60) for t in range(5)]
    lines += [f"all\ti{t}\t{t}" for t in range(30)]
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\ttitle:token_seq", *(f"i{n}\t{'saw' if n < 8 else 'poem'} {n}" for n in range(30))]
    (tmp_path / "toy" / "toy.item").write_text("\n".join(lines) + "\n")
    shape = {"lm_hidden_size": 48, "lm_intermediate_size": 64}
    result = run("TALLRec", "toy", {**given, **shape})
    assert result["test_result"]["hit@10"] >= 0.9  # chance: 10 / 21; the 8 saws are among the first 10


def test_predict_takes_any_mix_of_rows(tmp_path: Path) -> None:
    experiment = made("TALLRec", tmp_path)
    batch = next(iter(experiment.test_data))[0]
    rows = torch.tensor([0, 25, 0, 50, 25])
    mixed = Interaction({name: batch[name][rows] for name in batch.columns})
    scores = experiment.model.predict(mixed)
    assert scores.shape == (5,) and scores[0] == scores[2] and scores[1] == scores[4]
