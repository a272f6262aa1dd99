"""One vector per item of a history, and its loss: what stands aside changes nothing for what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, make_builder, save_checkpoint, write_dataset
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from recbole_lcrec.cli.viewer import format_sample
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.experiment import Experiment, build, load_experiment, run
from recbole_lcrec.instruction.loader import ASIDE, collate
from recbole_lcrec.instruction.prompts import Context, are_whole_items, whole_items
from recbole_lcrec.instruction.templates import LCREC_TEMPLATES
from recbole_lcrec.model.item_inputs import feed_items, positions_and_mask
from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings
from recbole_lcrec.utils.errors import UserError

NEXT_ITEM = LCREC_TEMPLATES["nextitem"][0]
HISTORY = Context(np.array([3, 1, 4]), 5)
SHAPE: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}


def with_options(folder: Path, **options: Any) -> dict[str, Any]:
    folders = {"data_path": str(write_dataset(folder)), "output_dir": str(folder / "out")}
    tasks = {"tasks": ["seqrec", "item2index", "fusionseqrec", "nextitem"]}
    tasks["task_samples"] = {"seqrec": 32, "item2index": 8, "fusionseqrec": 8, "nextitem": 48}  # type: ignore[assignment]
    return {**TINY, **tasks, **folders, "cache_dir": str(folder / "cache"), "history_input": "item", **options}


def made(folder: Path, **options: Any) -> Experiment:
    experiment = build("LCRec", "toy", with_options(folder, **options))
    experiment.model.eval()
    return experiment


def test_an_item_is_one_token_and_its_successor_stands_aside() -> None:
    builder = make_builder(history_input="item", history_loss_weight=0.5, history_separator="")
    sample = builder.sample(NEXT_ITEM, HISTORY)
    shown = format_sample(builder, sample)
    next_items = ["".join(f"([[{builder.tokenizer.decode([t])}]]:0.5)|" for t in builder.paths[row]) for row in (1, 4)]
    assert shown.startswith("<s>|<item i3>|" + next_items[0] + "<item i1>|" + next_items[1] + "<item i4>|[[<a_")
    assert sample.aside is not None and sample.ids[sample.aside].tolist() == builder.paths[[1, 4]].reshape(-1).tolist()
    assert (
        builder.prompt(NEXT_ITEM, HISTORY) == [*builder.tokenizer("").input_ids, *whole_items(HISTORY.history)]
    ).all()

    without = make_builder(history_input="item", history_separator="").sample(NEXT_ITEM, HISTORY)
    assert without.aside is None and (without.ids == sample.ids[~sample.aside]).all()
    assert not bool(ASIDE in collate([without], 0)) and bool(ASIDE in collate([without, sample], 0))


@pytest.mark.parametrize("task", ["seqrec", "nextitem"])
def test_long_histories_are_cut_alike_in_training_and_inference(task: str) -> None:
    builder = make_builder(history_input="item", history_loss_weight=1.0, max_length=90)
    template, long = LCREC_TEMPLATES[task][0], Context(np.array([3, 1, 4, 2, 0] * 20), 5)
    sample, prompt = builder.sample(template, long), builder.prompt(template, long, reserve=5)
    assert sample.aside is not None
    in_sight = sample.ids[~sample.aside]
    assert len(in_sight) <= 90 and (in_sight[: len(prompt)] == prompt).all() and len(in_sight) == len(prompt) + 5
    assert 4 < are_whole_items(prompt).sum() < 100


def test_positions_and_mask_pass_over_what_stands_aside() -> None:
    aside = torch.tensor([[0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    positions, mask = positions_and_mask(aside, torch.float32)
    assert positions.tolist() == [[0, 1, 2, 3, 2, 3, 3], [0, 0, 1, 2, 3, 4, 5]]
    sees = [[p for p in range(7) if mask[0, 0, token, p] == 0] for token in range(7)]
    assert sees == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [0, 1, 4, 6]]


def test_items_are_the_sum_of_their_codes() -> None:
    lm = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    paths = torch.tensor([[3, 7], [4, 9]])
    inputs = feed_items(lm, paths)
    ids = torch.tensor([[5, *whole_items(np.array([1])), 6, *whole_items(np.array([0]))]])
    embedded = inputs(ids)
    table = lm.get_output_embeddings().weight
    assert table is inputs.weight, "still tied"
    torch.testing.assert_close(
        embedded[0], torch.stack([table[5], table[4] + table[9], table[6], table[3] + table[7]])
    )
    torch.testing.assert_close(inputs(ids[:, :1]), table[5].view(1, 1, -1))
    inputs.use_items(torch.tensor([[3, 7], [4, 9], [1, 2]]))
    torch.testing.assert_close(inputs(whole_items(torch.tensor([2]))), (table[1] + table[2]).unsqueeze(0))


@pytest.mark.parametrize("task", ["seqrec", "nextitem"])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_the_loss_is_that_of_every_prefix_as_a_sample_of_its_own(
    tmp_path: Path, task: str, share_prefix: bool
) -> None:
    model = made(tmp_path, history_loss_weight=0.5, share_prefix=share_prefix).model.double()
    builder, template = model.catalogue.builder, LCREC_TEMPLATES[task][0]
    contexts = [Context(np.array(rows[:-1]), rows[-1]) for rows in ([2, 7, 5, 9], [4, 1], [8, 3, 6])]
    loss = model.calculate_loss(collate([builder.sample(template, context) for context in contexts], builder.pad_id))
    assert model._logits_at._states.__name__ == ("_shared" if share_prefix else "_plain")

    summed, weights = torch.zeros((), dtype=torch.float64), 0.0
    for context in contexts:
        prompt = builder.prompt(template, context)
        places = np.flatnonzero(are_whole_items(prompt))
        rows = [*context.history.tolist()]
        asked = [(prompt[: place + 1], builder.paths[row], 0.5) for place, row in zip(places, rows[1:], strict=False)]
        asked.append((prompt, builder.response(template, context), 1.0))
        for before, behind, weight in asked:
            ids = torch.from_numpy(np.concatenate([before, behind])).long().unsqueeze(0)
            logits = model.lm(input_ids=ids).logits[0, len(before) - 1 : -1]
            summed = summed + weight * functional.cross_entropy(logits, ids[0, len(before) :], reduction="sum")
            weights += weight * len(behind)
    torch.testing.assert_close(loss, (summed / weights).float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_models_are_asked_whether_they_pass_over(kind: str) -> None:
    settings = SampleLogitsSettings(0.1, True, False, False, False, 64)
    llama, gpt2 = LlamaConfig(**SHAPE), GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4)
    lm = LlamaForCausalLM(llama) if kind == "llama" else GPT2LMHeadModel(gpt2)
    forward = SampleLogits(lm, settings)
    assert forward.passes_over()
    forward.require_aside("history_input=item")


def test_models_that_mix_what_stands_side_by_side_are_refused() -> None:
    settings = SampleLogitsSettings(0.0, True, False, False, False, 64)
    recurrent = MambaForCausalLM(MambaConfig(vocab_size=90, hidden_size=32, num_hidden_layers=1, state_size=4))
    windowed = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8))
    for lm in (recurrent, windowed):
        with pytest.raises(UserError, match="cannot keep apart"):
            SampleLogits(lm, settings).require_aside("history_input=item")
    packed = SampleLogitsSettings(0.0, False, True, False, False, 64)
    with pytest.raises(UserError, match="does not go with packing"):
        SampleLogits(LlamaForCausalLM(LlamaConfig(**SHAPE)), packed).require_aside("history_input=item")


@pytest.mark.parametrize("base_model", [None, "gpt2"])
def test_a_run_trains_saves_and_comes_back(tmp_path: Path, base_model: str | None) -> None:
    options = with_options(tmp_path, eval_task="nextitem", history_loss_weight=1.0, history_separator="")
    options |= {"base_model": str(save_checkpoint(tmp_path / "lm", base_model))} if base_model else {}
    result = run("LCRec", "toy", {**options, "max_length": 400})
    back = load_experiment(tmp_path / "out")
    assert back.evaluate("test") == {name: pytest.approx(value) for name, value in result["test_result"].items()}
    known = back.model.catalogue.text.items
    top, scores = back.recommend([["i1", "i2"]], k=3)
    back.add_items({"new": "gadget 2 number 99"}, {"new": "group 2 colour 1"})
    assert back.recommend([["i1", "i2"]], k=3, among=list(known))[0] == top
    assert back.recommend([["i1", "new"]], k=3)[1] != scores, "a new item may stand in a history"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_input": "codes"}, "history_input is codes; expected tokens or item"),
        ({"tasks": ["item2index"], "eval_task": "fusionseqrec"}, "expected 'seqrec' or 'nextitem' among them"),
        ({"tasks": ["nextitem"], "task_samples": 8}, "eval_task=seqrec: expected one of the tasks that are learned"),
        ({"eval_task": "nextitem", "eval_prompts": [1]}, "each from 0 to 0"),
        ({"tuning": "lora", "base_model": "gpt2", "max_length": 400}, "adapters read tokens only"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    if "base_model" in options:
        options = {**options, "base_model": str(save_checkpoint(tmp_path / "lm", "gpt2"))}
    with pytest.raises(UserError, match=message):
        made(tmp_path, **options)


def test_prefixes_of_paths_tell_items_apart(tmp_path: Path) -> None:
    lm = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    paths = torch.tensor([[3, 7, 1], [3, 7, 2], [4, 9, 1]])
    inputs = feed_items(lm, paths, trained=paths)
    table, rows = inputs.weight, inputs.of_prefixes.weight  # prefixes: nothing, 37, 49, 371, 372, 491
    assert rows.shape == (6, 32) and not rows[0].any() and rows[1:].any(dim=1).all()
    first, second, new = (table[p].sum(0) for p in ([3, 7, 1], [3, 7, 2], [3, 7, 9]))
    expected = torch.stack([first + rows[1] + rows[3], second + rows[1] + rows[4]])
    torch.testing.assert_close(inputs(whole_items(torch.tensor([0, 1]))), expected)
    inputs.use_items(torch.tensor([[3, 7, 9], [5, 9, 1]]))
    expected = torch.stack([new + rows[1], table[[5, 9, 1]].sum(0)])
    torch.testing.assert_close(inputs(whole_items(torch.tensor([0, 1]))), expected, msg="as far as it is known")


def test_runs_with_prefixes_are_saved_and_take_new_items(tmp_path: Path) -> None:
    options = with_options(tmp_path, item_prefixes=True, history_loss_weight=1.0, epochs=1)
    result = run("LCRec", "toy", options)
    loaded = load_experiment(tmp_path / "out", {})
    assert loaded.evaluate("test") == result["test_result"]
    before = loaded.recommend([["i1", "i2"]], k=5)
    loaded.add_items({"new": "A lamp", "newer": "A lamp, too"})
    items, _ = loaded.recommend([["i1", "new"], ["i1", "i2"]], k=32)
    assert {"new", "newer"} <= set(items[0])
    assert loaded.recommend([["i1", "i2"]], k=5, among=[f"i{n}" for n in range(30)]) == before

    # the catalogue has grown: its new items get paths, and the saved weights still fit
    items_file = tmp_path / "toy" / "toy.item"
    items_file.write_text(
        items_file.read_text() + items_file.read_text().splitlines()[1].replace("i0", "brandnew", 1) + "\n"
    )
    grown = load_experiment(tmp_path / "out", {"cold_items": True, "index_missing": "add"})
    assert len(grown.model.catalogue.paths) == 31
    assert grown.recommend([["i1", "i2"]], k=5, among=[f"i{n}" for n in range(30)]) == before


def test_the_recipe_from_scratch_sizes_trains_and_is_loaded(tmp_path: Path) -> None:
    recipe = load_values(properties_dir() / "model" / "LCRec" / "scratch.yaml")
    given = {key: value for key, value in with_options(tmp_path).items() if key not in ("recipe", *recipe)}
    result = run("LCRec", "toy", {**given, "epochs": 1, "eval_step": 1, "lm_hidden_size": 16})
    assert {"nextitem", "item2index", "index2item", "itemsearch"} <= set(result["tasks"])
    loaded = load_experiment(tmp_path / "out", {})
    assert loaded.config["item_prefixes"] and loaded.config["codebook_size"] == [16, 32]
    assert loaded.evaluate("test") == result["test_result"]


def test_prefixes_need_item_vectors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Use it with history_input=item"):
        made(tmp_path, item_prefixes=True, history_input="tokens")
