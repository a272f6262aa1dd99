"""Every settings object of a run, built and checked once before a data file is read.

A single run, a comparison's entries and their processes, the trials of a search and ``--evaluate`` all come through
:func:`check_settings`, so that a wrong value is told now and not after the index has been built, and all of them in
one answer. :func:`check_models` looks at the models of others that a run starts from, which takes as long as loading
them.
"""

from __future__ import annotations

import math
from typing import Any

from recbole_lcrec.config import registry, settings_from
from recbole_lcrec.config.loggers import missing_loggers
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.embedding.huggingface import files_of_model
from recbole_lcrec.model.interface import ChecksModels, ChecksOptions, HasSettings
from recbole_lcrec.training.states import StateSettings
from recbole_lcrec.training.training_settings import TrainingSettings, check_precision
from recbole_lcrec.utils.errors import Mistakes
from recbole_lcrec.utils.files import fingerprint

_passed: set[str] = set()


def check_settings(config: Any) -> None:
    """Build all typed settings that a run of this configuration will build.

    Args:
        config: An :class:`LCRecConfig`; ``saved_run`` is the folder of the finished run that is loaded, if any.

    Raises:
        UserError: One for all that is wrong.
    """
    mistakes = Mistakes()
    model = registry.model_class(RunOptions(config).model)
    for settings in (StateSettings, *(model.settings if isinstance(model, HasSettings) else ())):
        with mistakes.caught():
            settings_from(settings, config)
    with mistakes.caught():
        check_precision(settings_from(TrainingSettings, config), config)
    if isinstance(model, ChecksOptions):
        with mistakes.caught():
            model.check_options(config)
    _check_numbers(config, mistakes)
    mistakes.finish()


def _check_numbers(config: Any, mistakes: Mistakes) -> None:
    """Note what is wrong with options of RecBole's own that no settings object of ours holds."""
    run = RunOptions(config)
    rate, longest = run.learning_rate, run.max_history
    if isinstance(rate, (int, float)):
        mistakes.expect(0 < rate < math.inf, f"learning_rate: expected a number above 0, found {rate}.")
    if isinstance(longest, int):
        mistakes.expect(longest >= 1, f"MAX_ITEM_LIST_LENGTH: expected 1 or more items, found {longest}.")
    if str(run.learner).lower() == "sparse_adam" and registry.is_ours(run.model):
        mistakes.add(
            f"learner: sparse_adam takes sparse gradients only, and {run.model} has dense ones. Use adam or adamw."
        )


def check_loggers(config: Any) -> None:
    """Refuse loggers that are not installed; a finished run is loaded without them.

    Raises:
        UserError: Naming them, with how they are installed.
    """
    mistakes = Mistakes()
    for problem in missing_loggers(config.final_config_dict):
        mistakes.add(f"{problem}.")
    mistakes.finish()


def check_models(config: Any) -> None:
    """Load the language models that a run starts from, once, and see whether they can be used.

    What has passed is remembered as long as the process lives: the trials of a search load a model once more only.

    Args:
        config: A configuration that :func:`check_settings` has passed.

    Raises:
        UserError: For models that cannot be loaded, are of another kind, or do not go with the options.
    """
    run = RunOptions(config)
    model = registry.model_class(run.model)
    if not isinstance(model, ChecksModels):
        return
    made = [repr(settings_from(settings, config)) for settings in model.settings]
    sources = [str(config[name]).removeprefix("hf:") for name in ("base_model", "user_text") if config[name]]
    key = fingerprint(run.model, made, [[source, files_of_model(source)] for source in sources])
    if key not in _passed:
        model.check_models(config)
        _passed.add(key)
