"""Checks of how a run is evaluated and what its model cannot do without: metrics, candidates, labels, negatives."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole.evaluator import metric_types
from recbole.evaluator.register import metric_information
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_lcrec.config.registry import has_index, is_generative, ranks_candidates
from recbole_lcrec.utils.errors import nearest

_METRICS_WITHOUT_K = {"auc", "gauc", "logloss", "mae", "rmse"}


def metrics_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the options ``metrics`` and ``topk``."""
    for metric in options["metrics"]:
        if metric.lower() not in metric_types:
            hint = nearest(metric, metric_types)
            yield f"option metrics: unknown metric {metric}.{hint} Known: {', '.join(metric_types)}."
    for name in ("metrics", "topk"):
        if not options[name]:
            yield f"option {name} is an empty list; expected at least one."


def problems(config: Any) -> Iterator[str]:
    """Yield the conflicts in a configuration that RecBole has completed."""
    order = config["eval_args"]["order"]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and order != "TO":
        yield f"option eval_args: order is {order}, but {config['model']} needs TO, interactions in time order"
    yield from _valid_metric(config)
    beams, longest = config["num_beams"], max(config["topk"])
    if is_generative(config["model"]) and beams is not None and beams < longest:
        yield (
            f"option num_beams is {beams}, less than the longest list in topk ({longest}): every recommended item "
            f"is a beam. Set num_beams to {longest} or more, or shorten topk"
        )
    modes = config["eval_args"]["mode"]
    if ranks_candidates(config["model"]) and not all(re.fullmatch(r"(uni|pop)\d+", mode) for mode in modes.values()):
        yield (
            f"option eval_args: mode is {modes}, but {config['model']} ranks candidates and cannot rank the whole "
            'catalogue. Use --eval_args="{mode: {valid: uni100, test: uni100}}" (100 sampled items and the target '
            "per user; uniN or popN), for it and for the models that it is compared with"
        )
    yield from _exclusion(config)
    yield from _labeled(config)
    yield from _negatives(config)


def needs_labels(config: Any) -> bool:
    """Return whether every row needs a label (liked or not), from a column of labels or from ``threshold``."""
    if "labeled" in config["eval_args"]["mode"].values():
        return True
    if _samples(config):
        return False  # RecBole labels sampled negatives, and the rows themselves, on its own
    is_valued = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    return is_valued or _mentions(config.model_class, "LABEL")


def _valid_metric(config: Any) -> Iterator[str]:
    metrics, topk, chosen = config["metrics"], config["topk"], config["valid_metric"]
    names = [name for metric in metrics for name in _result_names(metric, topk)]
    if chosen.lower() not in [name.lower() for name in names]:
        yield (
            f"option valid_metric is {chosen}, not one of the metrics that are computed (metrics at topk): "
            f"{', '.join(names)}. Set valid_metric to one of them, or add it to metrics and topk"
        )


def _exclusion(config: Any) -> Iterator[str]:
    if not config["exclude_history"]:
        return
    needed = {metric: set(metric_information[metric.lower()]) for metric in config["metrics"]}
    others = [metric for metric, needs in needed.items() if needs & {"rec.score", "rec.meanrank"}]
    labeled = "labeled" in config["eval_args"]["mode"].values()
    if others or labeled:
        found = f"metrics has {', '.join(others)}" if others else "the mode in eval_args is labeled"
        yield (
            f"option exclude_history is True, but {found}: it applies to lists of recommended items, and that "
            "needs the scores of all items. Leave exclude_history out, or use metrics of lists such as Hit and NDCG"
        )


def _result_names(metric: str, topk: Sequence[int]) -> list[str]:
    return [metric] if metric.lower() in _METRICS_WITHOUT_K else [f"{metric}@{k}" for k in topk]


def _labeled(config: Any) -> Iterator[str]:
    if "labeled" not in config["eval_args"]["mode"].values():
        return
    rankings = [name for name in config["metrics"] if metric_types[name.lower()] == EvaluatorType.RANKING]
    model = config["model"]
    if has_index(model) or ranks_candidates(model):
        problem = f"{model} ranks items and predicts no labels"
    elif rankings:
        problem = f"metrics has {', '.join(rankings)}, which measure lists of items"
    else:
        return
    yield (
        f"option eval_args: mode is labeled, but {problem}. Mode labeled goes with AUC, LogLoss, MAE and RMSE; for "
        "lists of items use the modes full, uniN or popN (as in uni100)."
    )


def _negatives(config: Any) -> Iterator[str]:
    """Yield that negative items are missing, which RecBole would notice only during training."""
    if _samples(config):
        return
    is_pairwise = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and _mentions(config.model_class, "NEG_ITEM_ID")
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE or (is_pairwise and config["loss_type"] != "CE"):
        loss = " with loss_type BPR" if config["loss_type"] == "BPR" else ""
        yield (
            f"option train_neg_sample_args is None, but {config['model']}{loss} learns from pairs of one of the "
            "user's items and a negative item. Leave the option out, or set "
            '--train_neg_sample_args="{distribution: uniform, sample_num: 1}".'
        )


def _samples(config: Any) -> bool:
    """Return whether negative items are drawn for the training."""
    return config["train_neg_sample_args"]["distribution"] != "none"


def _mentions(model: type, name: str) -> bool:
    """Return whether RecBole's code of a model, apart from its abstract classes, contains a name."""
    classes = [cls for cls in model.__mro__ if cls.__module__.startswith("recbole.model.")]
    return any(name in inspect.getsource(cls) for cls in classes if "abstract_recommender" not in cls.__module__)
