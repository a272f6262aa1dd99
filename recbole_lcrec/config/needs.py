"""What a mode or a model cannot do without, asked before anything is loaded: RecBole finds it missing in the training.

Which columns of the data a model needs is known only when the data are there: see ``needs_labels``.
"""

from __future__ import annotations

import inspect
from typing import Any

from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_lcrec.config.registry import has_index, ranks_candidates
from recbole_lcrec.utils.errors import UserError


def check_needs(config: Any) -> None:
    """Refuse options that lack what the model or the mode of evaluation needs.

    Args:
        config: The finished configuration.

    Raises:
        UserError: Naming the option, and what to set instead.
    """
    _check_labeled(config)
    _check_negatives(config)


def needs_labels(config: Any) -> bool:
    """Return whether rows have to say whether they are liked: by a column of labels, or by ``threshold``."""
    if "labeled" in config["eval_args"]["mode"].values():
        return True
    if _samples(config):
        return False  # RecBole labels sampled negatives, and the rows themselves, on its own
    is_valued = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    return is_valued or _mentions(config.model_class, "LABEL")


def _check_labeled(config: Any) -> None:
    if "labeled" not in config["eval_args"]["mode"].values():
        return
    rankings = [name for name in config["metrics"] if metric_types[name.lower()] == EvaluatorType.RANKING]
    model = config["model"]
    if has_index(model) or ranks_candidates(model):
        problem = f"{model} ranks items and predicts no labels"
    elif rankings:
        problem = f"metrics has {', '.join(rankings)}, which are of lists of items"
    else:
        return
    raise UserError(
        f"option eval_args: mode is labeled, but {problem}. Mode labeled goes with AUC, LogLoss, MAE and RMSE; for "
        "lists of items use the modes full, uniN or popN (as in uni100)."
    )


def _check_negatives(config: Any) -> None:
    if _samples(config):
        return
    is_pairwise = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and _mentions(config.model_class, "NEG_ITEM_ID")
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE or (is_pairwise and config["loss_type"] != "CE"):
        loss = " with loss_type BPR" if config["loss_type"] == "BPR" else ""
        raise UserError(
            f"option train_neg_sample_args is None, but {config['model']}{loss} learns from pairs of an item of the "
            "user and another one, and needs these. Leave the option out, or set "
            '--train_neg_sample_args="{distribution: uniform, sample_num: 1}".'
        )


def _samples(config: Any) -> bool:
    """Return whether negative items are drawn for the training."""
    return config["train_neg_sample_args"]["distribution"] != "none"


def _mentions(model: type, name: str) -> bool:
    """Return whether RecBole's code of a model, apart from its abstract classes, has a name in it."""
    classes = [cls for cls in model.__mro__ if cls.__module__.startswith("recbole.model.")]
    return any(name in inspect.getsource(cls) for cls in classes if "abstract_recommender" not in cls.__module__)
