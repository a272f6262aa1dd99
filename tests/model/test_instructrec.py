"""InstructRec: candidates ranked by the likelihood of their titles; instructions of titles, tastes and intentions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candidate_helpers import made, options, plain_log_probs

from recbole_lcrec.experiment import build, evaluate, load_experiment, run
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import RANKING_TEMPLATES, TITLEREC, TITLESEARCH, YESNO
from recbole_lcrec.utils.errors import UserError

PROMPT = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
The user has interacted with these items in order: "gadget 0 number 1", "gadget 0 number 4". Write the title of the \
item that comes next.

### Response:
"""


def test_the_prompt_and_its_labels(tmp_path: Path) -> None:
    builder = made("InstructRec", tmp_path).model.catalogue.builder
    sample = builder.sample(TITLEREC[0], Context(np.array([1, 4]), 27))
    decode = builder.tokenizer.decode
    assert decode(sample.ids[sample.weights == 0], skip_special_tokens=True) == PROMPT
    assert decode(sample.ids[sample.weights == 1]) == "gadget 5 number 27</s>"
    said = Context(np.array([1]), 27, intention="a red saw", preferences="likes tools")
    text = decode(builder.prompt(TITLESEARCH[-1], said))
    assert "tastes: likes tools is looking for this: a red saw" in text


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_scores_are_the_log_likelihoods_of_plain_forwards(tmp_path: Path, exponent: float) -> None:
    model = made("InstructRec", tmp_path, length_exponent=exponent).model
    builder = model.catalogue.builder
    histories = [np.array([3, 4, 5]), np.array([9]), np.arange(7)]
    candidates = [np.array([6, 7, 29]), np.array([0, 10]), np.array([20])]
    for history, some, scores in zip(histories, candidates, model.score(histories, candidates), strict=True):
        prompt = builder.prompt(TITLEREC[0], Context(history))
        for row, score in zip(some.tolist(), scores.tolist(), strict=True):
            sample = builder.sample(TITLEREC[0], Context(history, row))
            np.testing.assert_array_equal(sample.ids[: len(prompt)], prompt)
            title = sample.ids[len(prompt) :]
            log_probs = plain_log_probs(model, sample.ids)[len(prompt) - 1 : -1]
            truth = float(sum(log_probs[place, token] for place, token in enumerate(title.tolist())))
            assert score == pytest.approx(truth / len(title) ** exponent, rel=1e-5, abs=1e-4)


def test_prompt_and_longest_title_fit_into_max_length(tmp_path: Path) -> None:
    model = made("InstructRec", tmp_path, max_length=110, vocab_size=700).model
    builder = model.catalogue.builder
    prompt = builder.prompt(TITLEREC[0], Context(np.arange(20)), model._reserve)
    assert len(prompt) + model._reserve <= 110 and "number 19" in builder.tokenizer.decode(prompt)
    one, two = model.score([np.arange(20)] * 2, [np.array([21, 22, 23]), np.array([22])])
    assert one[1] == pytest.approx(float(two[0]), abs=1e-4)


def test_all_tasks_are_trained_in_all_wordings_and_know_nothing_held_out(tmp_path: Path) -> None:
    experiment = made("InstructRec", tmp_path, task_samples=200)
    samples, dataset = experiment.train_data.samples, experiment.train_data._dataset
    assert samples.per_epoch == {"titlerec": 200, "titlesearch": 200, "titlepreference": 200}
    rows = dataset.inter_feat
    pairs = set()
    for item, history in zip(rows["item_id"].tolist(), rows["item_id_list"].tolist(), strict=True):
        known = dataset.catalogue.row_of_id[[i for i in history if i]]
        pairs.add((tuple(known.tolist()), int(dataset.catalogue.row_of_id[item])))
    for stream in samples.streams:
        drawn = list(stream.draw(0))
        assert {template for _, template, _ in drawn} == set(RANKING_TEMPLATES[stream.task])
        for _, template, context in drawn:
            assert (tuple(context.history.tolist()), context.target) in pairs, "only training pairs are taught"
            for name in ("intention", "preferences"):
                assert name not in template.fields or getattr(context, name)


def test_without_user_texts_the_titles_remain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    experiment = made("InstructRec", tmp_path, user_text="none")
    assert experiment.train_data.samples.per_epoch == {"titlerec": 64}


def test_a_run_can_be_loaded_and_evaluated_again(tmp_path: Path) -> None:
    result = run("InstructRec", "toy", options(tmp_path))
    assert evaluate(tmp_path / "out")["test_result"] == result["test_result"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"user_texts.json", "tokenizer", "lm", "checkpoint"} <= names and "index.json" not in names
    second = run("InstructRec", "toy", options(tmp_path, output_dir=str(tmp_path / "second")))
    assert second["test_result"] == result["test_result"]
    loaded = load_experiment(tmp_path / "out")
    items, scores = loaded.recommend([["i1", "i2"]], 9, among=["i3", "i4", "i7"])
    assert sorted(items[0]) == ["i3", "i4", "i7"] and scores[0] == sorted(scores[0], reverse=True)
    with pytest.raises(UserError, match=r"among=\[\.\.\.\]"):
        loaded.recommend([["i1"]], 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length_exponent": 2.0}, "length_exponent is 2.0; expected a number from 0 to 1"),
        ({"tasks": ["titlesearch"]}, "expected 'titlerec' among them"),
        ({"tasks": ["titlerec", "seqrec"]}, "unknown task 'seqrec'"),
        ({"tasks": ["titlerec", "yesno"]}, "unknown task 'yesno'"),
        ({"eval_args": {"mode": "full"}}, "InstructRec ranks candidates"),
        ({"stage": "index"}, "InstructRec has no item index"),
    ],
)
def test_wrong_options(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made("InstructRec", tmp_path, **changes)


def test_what_can_be_learned_is_learned(tmp_path: Path) -> None:
    """The next item is of the history's group, and titles name the group: they must be read and written."""
    given = options(tmp_path, epochs=10, eval_step=10, task_samples=512, learning_rate=0.01, vocab_size=700)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"u{u}\ti{5 * (u % 6) + (u + t) % 5}\t{t}" for u in range(60) for t in range(5)]
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    groups = ["saw", "poem", "lemon", "shoe", "opera", "drum"]
    lines = ["item_id:token\ttitle:token_seq", *(f"i{n}\t{groups[n // 5]} {n % 5}" for n in range(30))]
    (tmp_path / "toy" / "toy.item").write_text("\n".join(lines) + "\n")
    shape = {"lm_hidden_size": 48, "lm_intermediate_size": 64, "lm_layers": 2, "tasks": ["titlerec"]}
    experiment = build("InstructRec", "toy", {**given, **shape})
    experiment.fit()
    metrics = experiment.evaluate("test", load_best=True)
    assert metrics is not None and metrics["hit@10"] >= 0.8  # chance: 10 / 21; rounding decides beyond


def test_the_words_of_the_instruction_may_carry_loss_too(tmp_path: Path) -> None:
    context = Context(np.array([1, 4]), 27, candidate=27, answer="Yes")
    for model, template in (("InstructRec", TITLEREC[0]), ("TALLRec", YESNO[0])):
        plain = made(model, tmp_path).model.catalogue.builder.sample(template, context)
        weighted = made(model, tmp_path, history_loss_weight=0.25).model.catalogue.builder.sample(template, context)
        np.testing.assert_array_equal(weighted.ids, plain.ids)
        np.testing.assert_array_equal(weighted.weights == 1, plain.weights == 1)
        text = made(model, tmp_path).model.catalogue.tokenizer.decode(plain.ids[weighted.weights == 0.25])
        assert text.startswith("Below") and '"gadget 0 number 4"' in text and "number 27" not in text
