"""The default options of a model on a data set: YAML files laid over each other, RecBole's and then ours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_lcrec.config.declared import defaults_of
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.paths import properties_dir, recbole_dir
from recbole_lcrec.config.registry import (
    MODELS,
    base_of,
    components_with_options,
    has_index,
    is_generative,
    ranks_candidates,
    reads_embeddings,
)

_VALUE_MODELS = ("CONTEXT", "DECISIONTREE")
KINDS: dict[str, Callable[[str], bool]] = {
    "embedding.yaml": reads_embeddings,
    "index.yaml": has_index,
    "generative.yaml": is_generative,
    "t5.yaml": lambda model: base_of(model) in ("TIGER", "P5CID"),
    "language_model.yaml": lambda model: base_of(model) in ("LCRec", "TALLRec", "InstructRec"),
    "user_texts.yaml": lambda model: base_of(model) in ("LCRec", "InstructRec"),
    "candidates.yaml": ranks_candidates,
}
"""Files of options that several of our models share -> whether a model has them."""


RECIPES = ("scratch", "paper")
"""Values of option ``recipe``; what they set is in properties/model/<model>/<recipe>.yaml."""

MACHINES = ("laptop_cpu", "gpu_24gb", "gpu_80gb")
"""Further values: the paper's recipe with a pretrained LM, fitted to a kind of machine."""


def defaults(model: str, model_type: str | None, dataset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of all options.

    Models that RecBole evaluates by value metrics (context-aware ones, decision trees, DIN and DIEN) predict labels
    and cannot rank a catalogue, so their quick-start settings are laid over our overall.yaml.

    Args:
        model: Name of a known model.
        model_type: Name of RecBole's ``ModelType`` of its class; None leaves the quick-start settings out, for callers
            that do not want to import the class yet.
        dataset: Name of the data set.
        given: The options that were given. Some determine the defaults of others: ``recipe``, and whether the model
            starts from a pretrained LM (``base_model``).
    """
    recbole, ours, base = recbole_dir() / "properties", properties_dir(), base_of(model)
    machine = _machine_layer(base, given)
    quick_start = [_values(recbole / "quick_start_config" / name) for name in _quick_start(base, model_type, dataset)]
    by_value = [layer for layer in quick_start if "metrics" in layer or model_type in _VALUE_MODELS]
    own = [defaults_of(one)[0] for one in components_with_options() if one.name not in MODELS]
    layers = [
        recbole_overall(),
        _load_if_there(recbole / "model" / f"{base}.yaml")
        or _load_if_there(recbole / "model" / f"{base.lower()}.yaml"),
        _values(recbole / "dataset" / "sample.yaml"),
        {} if dataset in ("url", "kg_url") else _load_if_there(recbole / "dataset" / f"{dataset}.yaml"),
        *(layer for layer in quick_start if layer not in by_value),
        _values(ours / "overall.yaml"),
        *by_value,
        *(_values(path) for path in kinds_of(model)),
        *(own if reads_embeddings(model) else []),
        _load_if_there(ours / "model" / f"{base}.yaml"),
        _recipe_layer(base, given),
        _load_if_there(ours / "model" / f"{model}.yaml") if model != base else {},
        _base_model_layer(base) if given.get("base_model", machine.get("base_model")) else {},
        machine,
        defaults_of(MODELS[model])[0] if model in MODELS else {},
        _load_if_there(ours / "dataset" / f"{dataset}.yaml"),
    ]
    return {name: value for layer in layers for name, value in layer.items()}


def kinds_of(model: str) -> list[Path]:
    """Return the files of options that a model shares with others of its kind."""
    return [properties_dir() / name for name, has in KINDS.items() if has(model)]


def _recipe_layer(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sets differently under the given recipe, or the one that follows from other options."""
    recipe = given.get("recipe") or ("paper" if given.get("base_model") else "scratch")
    recipe = "paper" if recipe in MACHINES else recipe
    layer = _load_if_there(properties_dir() / "model" / model / f"{recipe}.yaml") if recipe in RECIPES else {}
    if given.get("index_file") or given.get("quantizer") in ("random", "cid"):  # no embeddings that could be features
        layer |= {name: False for name in ("item_features",) if name in layer}
    return layer


def _machine_layer(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sets differently on the kind of machine that is given as its recipe."""
    recipe = given.get("recipe")
    return _load_if_there(properties_dir() / "model" / model / f"{recipe}.yaml") if recipe in MACHINES else {}


def _base_model_layer(model: str) -> dict[str, Any]:
    """Return what a model sets differently when it starts from a pretrained LM."""
    if ranks_candidates(model):
        return _values(properties_dir() / "model" / "candidates" / "base_model.yaml")
    return _load_if_there(properties_dir() / "model" / model / "base_model.yaml") if is_generative(model) else {}


def _quick_start(model: str, model_type: str | None, dataset: str) -> list[str]:
    """Return the quick-start YAMLs that RecBole lays over a model's options (its Config decides this inline)."""
    on_ml_100k = dataset == "ml-100k"
    if model_type in _VALUE_MODELS:
        return ["context-aware.yaml", *(["context-aware_ml-100k.yaml"] if on_ml_100k else [])]
    if model_type == "KNOWLEDGE":
        return ["knowledge_base.yaml"]
    if model_type != "SEQUENTIAL":
        return []
    if model in ("DIN", "DIEN"):
        return ["sequential_DIN.yaml", *(["sequential_DIN_on_ml-100k.yaml"] if on_ml_100k else [])]
    if model in ("GRU4RecKG", "KSR"):
        return ["sequential_embedding_model.yaml"]
    special = on_ml_100k and model in ("GRU4RecF", "SASRecF", "FDSA", "S3Rec")
    return ["sequential.yaml", *(["special_sequential_on_ml-100k.yaml"] if special else [])]


def recbole_overall() -> dict[str, Any]:
    """Return RecBole's own defaults for the options of every model."""
    return _values(recbole_dir() / "properties" / "overall.yaml")


def _load_if_there(path: Path) -> dict[str, Any]:
    return _values(path) if path.is_file() else {}


def _values(path: Path) -> dict[str, Any]:
    """Return the options of a file of ours or of RecBole's, which does not change while a process lives."""
    return copy.deepcopy(_read_once(path))


_read_once = lru_cache(maxsize=None)(load_values)
