"""The loss on codes under narrower softmaxes, against the whole vocabulary's logits with the others masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from t5_helpers import TINY_T5
from torch.nn import functional

from recbole_lcrec.experiment import Experiment, build, load_experiment, run
from recbole_lcrec.instruction.loader import ASIDE, INPUT_IDS, LOSS_WEIGHTS, collate
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import LCREC_TEMPLATES
from recbole_lcrec.utils.errors import UserError

TASKS = {
    "tasks": ["seqrec", "item2index", "index2item"],
    "task_samples": {"seqrec": 32, "item2index": 8, "index2item": 8},
}


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    places = {"data_path": str(write_dataset(folder)), "cache_dir": str(folder / "c"), "output_dir": str(folder / "o")}
    return {**TINY, **TINY_T5, **TASKS, **places, **changes}


def competitors(model: Any, normalization: str) -> dict[tuple[int, ...], list[int]]:
    """Return prefix of codes -> vocabulary ids that may follow, by going through all items."""
    paths = [tuple(path) for path in model.catalogue.paths.tolist()]
    ids, found = model.catalogue.code_ids.tolist(), {}
    starts = [sum(model.catalogue.index.level_sizes[:level]) for level in range(len(paths[0]) + 1)]
    for path in paths:
        for level in range(len(path)):
            same = {other[level] for other in paths if other[:level] == path[:level]}
            found[path[:level]] = (
                sorted(same) if normalization == "children" else ids[starts[level] : starts[level + 1]]
            )
    return found


@pytest.mark.parametrize("normalization", ["level", "children"])
@pytest.mark.parametrize("history_input", ["tokens", "item"])
def test_codes_compete_with_what_they_should_and_words_with_all(
    tmp_path: Path, normalization: str, history_input: str
) -> None:
    made = build("LCRec", "toy", options(tmp_path, history_input=history_input, loss_normalization=normalization))
    model, batch = made.model.double().eval(), next(iter(made.train_data))
    ids, weights = batch[INPUT_IDS], batch[LOSS_WEIGHTS]
    lengths = (ids != model.catalogue.builder.pad_id).sum(1)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[:, :-1] = weights[:, 1:] > 0
    logits = model._logits_at(ids, where, lengths, batch[ASIDE] if ASIDE in batch else None)
    allowed, codes = competitors(model, normalization), model.catalogue.code_ids.tolist()
    ends = np.cumsum(model.catalogue.index.level_sizes)
    losses, kept = [], []
    for (row, place), line in zip(where.nonzero().tolist(), logits, strict=True):
        target = int(ids[row, place + 1])
        if target in codes:
            level = int((ends <= codes.index(target)).sum())
            among = allowed[tuple(ids[row, place + 1 - level : place + 1].tolist())]
            line = torch.full_like(line, -torch.inf).index_copy(0, torch.tensor(among), line[among])
        losses.append(functional.cross_entropy(line, torch.tensor(target)))
        kept.append(weights[row, place + 1])
    expected = (torch.stack(losses) * torch.stack(kept)).sum() / torch.stack(kept).sum()
    torch.testing.assert_close(model.calculate_loss(batch), expected, atol=1e-9, rtol=0, check_dtype=False)


def test_a_batch_without_codes(tmp_path: Path) -> None:
    model = build("LCRec", "toy", options(tmp_path, loss_normalization="children")).model.eval()
    builder, template = model.catalogue.builder, LCREC_TEMPLATES["index2item"][0]
    batch = collate([builder.sample(template, Context(np.zeros(0, np.int64), row)) for row in (3, 8)], builder.pad_id)
    loss = model.calculate_loss(batch)
    whole = build("LCRec", "toy", options(tmp_path)).model.eval()
    torch.testing.assert_close(loss, whole.calculate_loss(batch))


@pytest.mark.parametrize("normalization", ["level", "children"])
def test_t5_too(tmp_path: Path, normalization: str) -> None:
    made = build("TIGER", "toy", options(tmp_path, loss_normalization=normalization))
    model, batch = made.model.double().eval(), next(iter(made.train_data))
    rows = torch.from_numpy(model.catalogue.row_of_id)
    ids, mask = model.inputs(rows[batch["item_id_list"]], batch["item_length"], batch["user_id"], [0] * len(batch))
    paths = torch.from_numpy(model.catalogue.paths)[rows[batch["item_id"]]]
    logits, allowed = (
        model.lm(input_ids=ids, attention_mask=mask, labels=paths).logits,
        competitors(model, normalization),
    )
    losses = []
    for of_row, path in zip(logits, paths.tolist(), strict=True):
        for level, code in enumerate(path):
            among = allowed[tuple(path[:level])]
            losses.append(functional.cross_entropy(of_row[level, among], torch.tensor(among.index(code))))
    torch.testing.assert_close(model.calculate_loss(batch), torch.stack(losses).mean())


@pytest.mark.parametrize("name", ["LCRec", "LCRec with prefixes", "TIGER"])
def test_a_run_ranks_by_what_it_learned(tmp_path: Path, name: str) -> None:
    config = options(tmp_path, loss_normalization="children", num_beams=30, epochs=2)
    if name == "LCRec with prefixes":
        name, config = "LCRec", {**config, "history_input": "item", "item_prefixes": True}
    result = run(name, "toy", config)
    loaded: Experiment = load_experiment(Path(config["output_dir"]), {})
    assert loaded.evaluate("test") == result["test_result"]
    _, scores = loaded.recommend([["i1", "i2"], ["i5"]], k=30)
    for line in torch.tensor(scores).double().exp():
        torch.testing.assert_close(line.sum().item(), 1.0, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss_normalization": "words"},
            "loss_normalization is words; expected vocabulary, level or children",
        ),
        (
            {"score_normalization": "words"},
            "score_normalization is words; expected vocabulary, level or children or None",
        ),
        ({"loss_normalization": "children", "score_normalization": "level"}, "never learns how likely"),
    ],
)
@pytest.mark.parametrize("name", ["LCRec", "TIGER"])
def test_wrong_options(tmp_path: Path, name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, "toy", options(tmp_path, **changes))
