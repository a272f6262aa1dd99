"""From a finished run to a folder that plain transformers loads: weights, tokenizer, trie, script and model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.saved_run import read_result
from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.experiment import load_experiment
from recbole_lcrec.export.card import card, licence_of
from recbole_lcrec.export.checking import ScoredHistories, agreement, sample_of
from recbole_lcrec.export.checks import check_exportable, check_new
from recbole_lcrec.export.tokens import add_items, index_tokenizer
from recbole_lcrec.export.weights import ADAPTER, save_weights
from recbole_lcrec.model.interface import HasTokenizer
from recbole_lcrec.model.item_inputs import ItemInputs
from recbole_lcrec.pages import render
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import atomic_folder, write_json, write_text
from recbole_lcrec.utils.lm_config import number_of
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.version import __version__

SCRIPT, CARD, ABOUT = "recommend.py", "README.md", "recommender.json"
LEAST_AGREEMENT = 0.9
"""Share of the places in some users' top lists that must have the run's items, or ties with them."""


def export(
    run_dir: str | Path, output: str | Path, *, lora: str | None = None, cli: Mapping[str, Any] | None = None
) -> Path:
    """Write a finished run as a folder that transformers loads without this package; return the folder.

    In addition to weights, configuration and tokenizer it has ``index.json`` (item -> path), ``trie.json``,
    ``recommender.json`` (what surrounds a history), a script that recommends with ``generate``, and a model card.
    Before the folder gets its name, the script is run: its items for some users of the data must be those of the run.

    Args:
        run_dir: Output folder of a finished run.
        output: The new folder, or an empty one.
        lora: ``merged`` puts adapters into the weights (also None), ``beside`` into a folder of their own.
        cli: Options to change, among those that ``--evaluate`` takes, such as ``num_beams`` or ``data_path``.

    Raises:
        UserError: For a run that plain transformers cannot recommend with, a folder that is not empty, or what
            ``load_experiment`` refuses; nothing half-written stays behind.
    """
    run_dir, output, changes = Path(run_dir).absolute(), Path(output).absolute(), arguments.options("cli", cli)
    check_new(output)
    options = check_exportable(run_dir, changes, lora)
    beside = lora == "beside"
    with quiet(), atomic_folder(output) as folder:
        written = _write(run_dir, folder, changes, beside=beside)
        # the run's model has been freed by now: a large one need not fit into memory twice
        share = _checked(folder / SCRIPT, written.sample)
        text = card(
            options=options,
            changes=changes,
            result=read_result(run_dir) or {},
            about=written.about,
            licence=licence_of(options.get("base_model")),
            prompt=written.prompt,
            encoder_decoder=written.encoder_decoder,
            adapter=ADAPTER if beside else None,
            n_items=written.n_items,
            levels=written.levels,
            agreement=share,
            users=len(written.sample.histories),
        )
        write_text(folder / CARD, text + "\n")
    return output


@dataclass(frozen=True)
class Written:
    """What the card says about a model that has been written.

    Attributes:
        about: Contents of recommender.json.
        prompt: A history put into words; "" if there are none.
        encoder_decoder: Whether the model has an encoder.
        n_items: Number of items.
        levels: Number of codes of each level.
        sample: What the run recommends to some users.
    """

    about: dict[str, Any]
    prompt: str
    encoder_decoder: bool
    n_items: int
    levels: list[int]
    sample: ScoredHistories


def _write(run_dir: Path, folder: Path, changes: Mapping[str, Any], *, beside: bool) -> Written:
    """Load a run and write everything but the card into a folder."""
    experiment = load_experiment(run_dir, {**changes, "precision": "fp32", "use_gpu": False})
    model = experiment.model
    about, sample = about_recommending(model, experiment.config), sample_of(experiment)
    catalogue = model.catalogue
    items, paths, index_tokens = list(catalogue.text.items), catalogue.paths, catalogue.index.index_tokens()
    _write_tokenizer(model, folder, items, index_tokens)
    levels = list(catalogue.index.level_sizes)
    generation = generation_config(base_model(model.lm), about, len(levels))
    lm = save_weights(model.lm, folder, generation, beside=beside)
    token_of = dict(zip(catalogue.code_ids.tolist(), index_tokens, strict=True))
    in_tokens = {item: [token_of[code] for code in path] for item, path in zip(items, paths.tolist(), strict=True)}
    write_json(folder / "index.json", in_tokens)
    write_text(folder / "trie.json", json.dumps(trie(items, paths), ensure_ascii=False) + "\n")
    write_json(folder / ABOUT, {"written_by": f"recbole_lcrec {__version__}", **about})
    write_text(folder / SCRIPT, render("recommend.py.jinja", **script_values(lm, about, beside)) + "\n")
    return Written(about, _in_words(model, about), lm.config.is_encoder_decoder, len(items), levels, sample)


def _in_words(model: Any, about: Mapping[str, Any]) -> str:
    """Return a history of two items put into words; "" if there are no words around it."""
    if not isinstance(model, HasTokenizer):
        return ""
    before, between, behind = (
        model.tokenizer.decode(about[name], skip_special_tokens=True) for name in ("before", "between", "behind")
    )
    return f"{before}ITEM{between}ITEM{behind}" if before or behind else ""


def about_recommending(model: Any, config: LCRecConfig) -> dict[str, Any]:
    """Return what recommending needs besides weights, tokenizer and trie: the contents of ``recommender.json``.

    Raises:
        UserError: For a model that does not define what it reads around a history.
    """
    try:
        frame = model.history_frame()
    except TypeError as error:
        raise UserError(f"--export: {error}, which says what the model reads around a history.") from error
    normalization, run = model.evaluation.normalization, RunOptions(config)
    about = {
        "num_beams": model.num_beams,
        "max_history": run.max_history,
        "max_length": frame.max_length,
        "before": frame.before,
        "between": frame.between,
        "behind": frame.behind,
        "normalization": normalization,
        "exclude_history": run.exclude_history,
        "item_score_weight": float(model.item_score_weight),
        "item_tokens": isinstance(base_model(model.lm).get_input_embeddings(), ItemInputs),
    }
    if about["item_tokens"]:
        about["first_item_token"] = base_model(model.lm).get_input_embeddings().weight.shape[0]
    if normalization == "level":
        ends = np.cumsum(model.catalogue.index.level_sizes)[:-1]
        about["levels"] = [ids.tolist() for ids in np.split(model.catalogue.code_ids, ends)]
    return about


def plain_constraint(about: Mapping[str, Any]) -> bool:
    """Return whether ``prefix_allowed_tokens_fn`` alone makes generate's scores those of the run."""
    if about["item_score_weight"]:
        return False
    if about["normalization"] == "vocabulary":
        return not about["item_tokens"]  # they would be part of the vocabulary
    return about["normalization"] == "children" and not about["exclude_history"]


def generation_config(lm: Any, about: Mapping[str, Any], levels: int) -> Any:
    """Return how ``generate`` searches: a new token for each code of a path, their log-probabilities summed."""
    from transformers import GenerationConfig

    names = ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id")
    tokens = {name: value for name in names if (value := number_of(lm.config, name)) is not None}
    if "pad_token_id" not in tokens and "eos_token_id" in tokens:
        end = tokens["eos_token_id"]
        tokens["pad_token_id"] = end[0] if isinstance(end, list) else end
    return GenerationConfig(
        num_beams=about["num_beams"],
        max_new_tokens=levels,
        do_sample=False,
        length_penalty=0.0,
        # a softmax over the children of a node: the vocabulary's softmax with everything else masked
        renormalize_logits=plain_constraint(about) and about["normalization"] == "children",
        **tokens,
    )


def script_values(lm: Any, about: Mapping[str, Any], beside: bool) -> dict[str, Any]:
    """Return the values for the template of the script."""
    return {
        "auto_class": "AutoModelForSeq2SeqLM" if lm.config.is_encoder_decoder else "AutoModelForCausalLM",
        "encoder_decoder": bool(lm.config.is_encoder_decoder),
        "adapter": ADAPTER if beside else None,
        "plain": plain_constraint(about),
        **{name: about[name] for name in ("exclude_history", "item_tokens", "item_score_weight", "normalization")},
        "limited": about["max_length"] is not None,
    }


def trie(items: list[str], paths: np.ndarray) -> dict[str, Any]:
    """Return the trie of paths [n_items, L] as nested mappings: token id -> ... -> token id -> item."""
    root: dict[str, Any] = {}
    for item, path in zip(items, paths.tolist(), strict=True):
        node = root
        for code in path[:-1]:
            node = node.setdefault(str(code), {})
        node[str(path[-1])] = item
    return root


def _write_tokenizer(model: Any, folder: Path, items: list[str], index_tokens: list[str]) -> None:
    from recbole_lcrec.instruction.tokenizer import load_tokenizer

    inputs = base_model(model.lm).get_input_embeddings()
    if not isinstance(model, HasTokenizer):
        index_tokenizer(index_tokens, inputs.weight.shape[0]).save_pretrained(folder)
        return
    model.tokenizer.save_pretrained(folder)
    if isinstance(inputs, ItemInputs):
        tokenizer = load_tokenizer(folder, "export")  # a copy: prompts are made with the original
        add_items(tokenizer, items, inputs.weight.shape[0])
        tokenizer.save_pretrained(folder)


def _checked(script: Path, sample: ScoredHistories) -> float:
    """Return the share of places of the sample's top lists in which the script has the run's items or ties with them.

    Raises:
        UserError: If it is less than ``LEAST_AGREEMENT``.
    """
    share = agreement(script, sample)
    if share < LEAST_AGREEMENT:
        raise UserError(
            f"--export: with plain transformers, {share:.0%} of the recommendations for {len(sample.histories)} users "
            "match the run's: its architecture does something that generate does not do. Nothing was exported."
        )
    return share
