"""What an option means only together with others, or in its parts; checked before data are read."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from recbole_lcrec.config.loggers import unknown_loggers
from recbole_lcrec.config.recbole_options import HEADS, losses_of
from recbole_lcrec.utils.errors import nearest

_EVAL_ARGS = ("split", "group_by", "order", "mode")
_LEAVE_OUT = ("valid_and_test", "valid_only", "test_only")
_PHASES = ("valid", "test")
_NEGATIVES: dict[str, tuple[type | tuple[type, ...], float, float, str]] = {
    "sample_num": (int, 1, 10_000, "a whole number from 1 to 10,000"),
    "candidate_num": (int, 0, 10_000, "a whole number from 0 to 10,000"),
    "alpha": ((int, float), 0, 100, "a number from 0 to 100"),
}
_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD", "ITEM_LIST_LENGTH_FIELD")
_GRAPH_COLUMNS = ("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD")

_FILTERS = ("user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter")
_NO_FILTER: tuple[Any, ...] = (None, "[0,inf)", "[0, inf)", {})


def problems(model: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with options in combination.

    Args:
        model: The model.
        options: Checked options; missing ones are skipped.
    """
    yield from _columns(options)
    yield from _model_options(model, options)
    if options.get("eval_args") is not None:
        yield from _eval_args(options["eval_args"])
    if options.get("train_neg_sample_args") is not None:
        yield from _negatives(options["train_neg_sample_args"])
    if options.get("discretization") is not None:
        yield from _discretization(options["discretization"], options.get("numerical_features") or [])
    yield from unknown_loggers(options)
    if options.get("benchmark_filename") is not None:
        yield from _ready_split(options)
    encoding = options.get("encoding")
    if encoding is not None and not _is_text_encoding(encoding):
        yield f"option encoding is {encoding}, which Python does not know; expected e.g. utf-8 or latin-1"
    for column in options.get("val_interval") or {}:
        if not isinstance(column, str):
            yield f"option val_interval: {column} is not a column; expected e.g. {{rating: '[3,inf)'}}"
    threshold = options.get("threshold")
    if threshold is not None and len(threshold) != 1:
        yield (
            f"option threshold is {threshold}; expected one column of the interactions with the least number that "
            "counts as liked, such as {rating: 3}"
        )


def _columns(options: Mapping[str, Any]) -> Iterator[str]:
    for group in (_COLUMNS, _GRAPH_COLUMNS):
        counts = Counter(options[name] for name in group if options.get(name))
        if options.get("LABEL_FIELD") and options["LABEL_FIELD"] == options.get("RATING_FIELD"):
            counts[options["LABEL_FIELD"]] -= 1  # a rating of 0 or 1 may be the label
        for column, count in counts.items():
            if count > 1:
                names = ", ".join(name for name in group if options.get(name) == column)
                yield f"options {names} are all {column}; expected a column of its own for each"


def _model_options(model: str, options: Mapping[str, Any]) -> Iterator[str]:
    loss, losses = options.get("loss_type"), losses_of(model)
    if loss is not None and loss not in losses:
        yield f"option loss_type is {loss}; {model} takes {' or '.join(losses)}"
    for heads, widths in HEADS.items():
        width = next((name for name in widths if options.get(name)), None)
        if width and options.get(heads) and options[width] % options[heads]:
            yield (
                f"option {heads} is {options[heads]}, which does not divide {width}={options[width]}: every head has "
                f"an equal share of it. Change one of them"
            )


def _eval_args(given: Mapping[str, Any]) -> Iterator[str]:
    for key in given:
        if key not in _EVAL_ARGS:
            hint = nearest(str(key), _EVAL_ARGS)
            yield f"option eval_args: unknown key {key}.{hint} It has the keys: {', '.join(_EVAL_ARGS)}"
    if "split" in given and not _is_split(given["split"]):
        yield (
            f"option eval_args: split is {given['split']}; expected {{'LS': one of {', '.join(_LEAVE_OUT)}}} or "
            "{'RS': [0.8, 0.1, 0.1]} (shares of training, validation and test)"
        )
    for key, expected in (("order", ("TO", "RO")), ("group_by", ("user", "none", None))):
        if key in given and given[key] not in expected:
            yield f"option eval_args: {key} is {given[key]}; expected {' or '.join(str(one) for one in expected)}"
    mode = given.get("mode", "full")
    if isinstance(mode, dict) and set(mode) != set(_PHASES):
        yield f"option eval_args: mode is {mode}; expected one for all, or {{valid: ..., test: ...}}"
    for one in mode.values() if isinstance(mode, dict) else [mode]:
        if not isinstance(one, str) or not re.fullmatch(r"full|labeled|(uni|pop)[1-9]\d{0,5}", one):
            yield f"option eval_args: mode is {mode}; expected full, uniN, popN (as in uni100) or labeled"


def _is_split(split: Any) -> bool:
    if not isinstance(split, dict) or len(split) != 1:
        return False
    ((kind, value),) = split.items()
    if kind == "LS":
        return isinstance(value, str) and value in _LEAVE_OUT
    numbers = isinstance(value, list) and len(value) == 3 and all(_is_number(part) for part in value)
    return kind == "RS" and numbers and all(part >= 0 for part in value) and value[0] > 0


def _negatives(given: Mapping[str, Any]) -> Iterator[str]:
    where = "option train_neg_sample_args"
    known = ("distribution", "dynamic", *_NEGATIVES)
    for key, value in given.items():
        if key not in known:
            yield f"{where}: unknown key {key}.{nearest(str(key), known)} It has the keys: {', '.join(known)}"
        elif key in _NEGATIVES:
            kind, low, high, expected = _NEGATIVES[key]
            number: Any = value
            if not isinstance(value, kind) or isinstance(value, bool) or not low <= number <= high:
                yield f"{where}: {key} is {value}; expected {expected}"
        elif key == "dynamic" and not isinstance(value, bool):
            yield f"{where}: dynamic is {value}; expected True or False"
    if given.get("distribution") not in ("uniform", "popularity", None):
        yield f"{where}: distribution is {given['distribution']}; expected uniform, popularity or None"
    if given.get("dynamic") is True and not given.get("candidate_num"):
        yield f"{where}: dynamic is True; expected a candidate_num of 1 or more with it"


def _discretization(given: Mapping[str, Any], numerical: list[str]) -> Iterator[str]:
    for column, how in given.items():
        where = f"option discretization: {column}"
        method = how.get("method")
        if column not in numerical:
            yield f"{where} is not among numerical_features {numerical}. Add it there"
        if method not in ("ED", "LD"):
            yield f"{where} has the method {method}; expected ED (equal distance) or LD (logarithm)"
        bucket = how.get("bucket")
        if method == "ED" and (type(bucket) is not int or not 1 <= bucket <= 100_000):
            yield f"{where} has the bucket {bucket}; expected a whole number from 1 to 100,000"


def _ready_split(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that would change a ready-made split, or do not describe one."""
    found = [name for name in _FILTERS if options.get(name) not in _NO_FILTER]
    if found:
        settings = " ".join(f"--{name}=~" for name in found)
        yield (
            f"option benchmark_filename: the split is ready, so {', '.join(found)} cannot apply (RecBole would skip "
            f"them silently). Take them out, e.g. with {settings}, or give the whole data in one .inter file"
        )
    if len(options["benchmark_filename"]) != 3:
        yield (
            f"option benchmark_filename is {options['benchmark_filename']}; expected three names, of the training, "
            "validation and test files, e.g. [train, valid, test]"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False
