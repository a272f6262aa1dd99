"""The options of a run, with every settings object that they are made into, checked before a data file is read.

A single run, a comparison's entries and their processes, a search with its space and its trials, and ``--evaluate``
all go through :func:`checked_config`, so wrong values are reported now and not after the index has been built, and all
of them at once. :func:`check_models` checks the pretrained models that a run starts from, which takes as long as
loading them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_lcrec.config import LCRecConfig, registry, settings_from
from recbole_lcrec.config.loggers import missing_loggers
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.embedding.huggingface import files_of_model
from recbole_lcrec.model.interface import ChecksModels, ChecksOptions, HasSettings
from recbole_lcrec.training.states import StateSettings
from recbole_lcrec.training.training_settings import TrainingSettings, check_precision
from recbole_lcrec.utils.errors import Mistakes
from recbole_lcrec.utils.files import fingerprint

_passed: set[str] = set()


def checked_config(
    *args: Any, saved: Path | None = None, reading: Reading | None = None, **kwargs: Any
) -> LCRecConfig:
    """Return the configuration of a run, its options fully checked.

    Args:
        *args: As for :class:`LCRecConfig`; likewise ``**kwargs``.
        saved: Folder of the finished run that is loaded, if any.
        reading: Collects the mistakes; without one, they are raised.

    Raises:
        UserError: One for all mistakes. With ``reading``, only if no configuration can be made.
    """
    noted = Reading() if reading is None else reading
    config = LCRecConfig(*args, reading=noted, **kwargs)
    config["saved_run"] = str(saved) if saved else None
    if saved is None:  # a finished run is loaded without them
        noted.relate(missing_loggers(config.final_config_dict))
    with noted.relating():
        check_settings(config)
    if reading is None:
        noted.finish()
    return config


def check_settings(config: Any) -> None:
    """Build all typed settings that a run of this configuration will build.

    Args:
        config: An :class:`LCRecConfig`; ``saved_run`` is the folder of the finished run that is loaded, if any.

    Raises:
        UserError: One for all mistakes.
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
    run = RunOptions(config)
    if str(run.learner).lower() == "sparse_adam" and registry.is_ours(run.model):
        mistakes.add(
            f"learner: sparse_adam takes sparse gradients only, and {run.model} has dense ones. Use adam or adamw."
        )
    mistakes.finish()


def check_models(config: Any) -> None:
    """Load the language models that a run starts from, once, and check that they can be used.

    What has passed is remembered as long as the process lives, so that the trials of a search do not repeat it.

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
