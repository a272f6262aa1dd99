"""What is wrong with a search, told before the data are loaded: its options, the model's, and values of the space."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from recbole_lcrec.config import LCRecConfig, registry
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.experiment import factory
from recbole_lcrec.experiment.checks import checked_config
from recbole_lcrec.tuning.schedulers import check_population
from recbole_lcrec.tuning.search_settings import SearchSettings
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.utils.errors import UserError, nearest

_DRAWS = 64
"""Number of the space's configurations that are checked."""


def check_search(
    model: str,
    dataset: str,
    given: Mapping[str, Any],
    space: Space | None,
    settings: SearchSettings | None,
    reading: Reading,
) -> LCRecConfig:
    """Return the configuration without the space's values, on the kind of device that trials have.

    Args:
        model: Name of the model.
        dataset: Name of the data set.
        given: Options of the files and of the command line.
        space: What is varied; None if it cannot be read.
        settings: Options of the search; None if they are wrong.
        reading: Collects the mistakes.
    """
    on_cpu = {"use_gpu": False} if settings is not None and settings.gpus_per_trial == 0 else {}
    options = {**given, **on_cpu}
    config = checked_config(model, dataset, cli=options, reading=reading)
    with reading.relating():
        _check_epochs(config)
    if settings is not None:
        with reading.relating():
            check_population(settings, factory.trainer_class(config), RunOptions(config).preference_stage)
    if space is not None:
        reading.relate(_unknown(space, config))
        if twice := [name for name in space.names if name in given]:
            reading.add(
                f"{space.source} varies {', '.join(twice)}, but the command or a file that it names also sets it: "
                "leave one of them out."
            )
        else:
            reading.relate(_unfit_values(config, options, space, reading))
    return config


def _check_epochs(config: LCRecConfig) -> None:
    run = RunOptions(config)
    if run.eval_step < 1 or run.epochs < run.eval_step:
        raise UserError(
            f"epochs is {run.epochs} and eval_step {run.eval_step}: trials would never be validated, and "
            "a search compares them by their validation. Set eval_step to 1 or more, and epochs to at least eval_step."
        )


def _unknown(space: Space, config: LCRecConfig) -> Iterator[str]:
    """Yield the options that the model does not have: trials would differ in nothing but their names."""
    model, known = RunOptions(config).model, set(config.final_config_dict)
    source = inspect.getsource(inspect.getmodule(registry.model_class(model)))  # type: ignore[arg-type]
    for name in space.names:
        if name not in known and f'config["{name}"]' not in source:
            yield f"{space.source}: {name}: model {model} has no such option.{nearest(name, known)}"


def _unfit_values(config: LCRecConfig, given: Mapping[str, Any], space: Space, known: Reading) -> list[str]:
    """Return why some values can be in no trial: every configuration drawn with one of them is refused.

    Args:
        config: The configuration without the space's values.
        given: The options that it was made from.
        space: What is varied.
        known: Mistakes of that configuration, which are not the space's.
    """
    drawn = [(values, _mistakes(config, {**given, **values}, known)) for values in space.random(_DRAWS, 0)]
    if all(mistakes for _, mistakes in drawn):
        return [f"{space.source}: {mistake}" for mistake in drawn[0][1]]
    found: dict[str, str] = {}
    for dimension in space.dimensions:
        for value in dimension.points() or ():
            tried = [mistakes for values, mistakes in drawn if (dimension.name, value) in values.items()]
            if tried and all(tried):
                found.setdefault(tried[0][0], f"{space.source}: {dimension.name}={value}: {tried[0][0]}")
    return list(found.values())


def _mistakes(config: LCRecConfig, options: Mapping[str, Any], known: Reading) -> list[str]:
    """Return what is wrong with a configuration, except for what is known already."""
    try:
        checked_config(config.model, config.dataset, cli=options)
    except UserError as error:
        return [mistake for mistake in error.mistakes if mistake not in known]
    return []
