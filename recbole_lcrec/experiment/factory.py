"""The parts of an experiment by the name of its model: data set, train loader, model and trainer.

Parts that the registry does not have are RecBole's, with our split and trainer features around them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from recbole_lcrec.config.registry import base_of, is_ours, missing_package, model_class, part
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.utils.errors import UserError, reason_of


def make_model(config: Any, dataset: Any) -> Any:
    """Return ``config['model']`` for a training dataset, not yet on its device.

    Raises:
        UserError: If a package that the model needs is missing, a file that it starts from cannot be loaded, or
            RecBole refuses the options.
    """
    run = RunOptions(config)
    from recbole_lcrec.experiment.refusals import refusals_of_recbole
    from recbole_lcrec.model.quick_sasrec import fuse_gelu, quick_class

    cls = quick_class(model_class(run.model))
    try:
        with refusals_of_recbole(f"model {run.model}"):
            model = cls(config, dataset)
    except ImportError as error:
        raise missing_package(run.model, error) from error
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        if not _is_about_weights(config, error):
            raise
        raise UserError(
            f"model {run.model}: the file of weights that it starts from cannot be loaded ({reason_of(error)}). "
            f"Set {' or '.join(_weight_files(config))} to a file that a run of this package wrote."
        ) from error
    fuse_gelu(model)
    return model


def _weight_files(config: Any) -> dict[str, Path]:
    """Return the options of ``config['model']`` that name weight files to start from: option -> file."""
    if is_ours(base_of(RunOptions(config).model)):
        return {}
    options = ("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path")
    return {name: Path(config[name] or "") for name in options if name in config}


def _is_about_weights(config: Any, error: Exception) -> bool:
    """Return whether a constructor failed because of the weight file that it starts from."""
    files = _weight_files(config)
    if isinstance(error, OSError):
        return error.filename is not None and Path(error.filename) in files.values()
    if isinstance(error, RuntimeError):  # torch's words for files that are truncated or of another model
        return bool(files) and any(words in str(error) for words in ("PytorchStreamReader", "loading state_dict"))
    return bool(files)


def dataset_class(config: Any) -> type:
    """Return the dataset class of ``config['model']``: ours, or RecBole's with our split mixed in."""
    if (own := part(RunOptions(config).model, "dataset")) is not None:
        return own  # type: ignore[no-any-return]
    from recbole_lcrec.data.split import shared_split_class

    return shared_split_class(config)


def train_loader_class(config: Any) -> type:
    """Return the train data loader class of ``config['model']``."""
    if (own := part(RunOptions(config).model, "train_loader")) is not None:
        return own  # type: ignore[no-any-return]
    from recbole.data.utils import get_dataloader

    return get_dataloader(config, "train")


def trainer_class(config: Any) -> type:
    """Return the trainer class of ``config['model']``: RecBole's choice with our features mixed in."""
    run = RunOptions(config)
    from recbole_lcrec.training.trainer import with_features

    if (own := part(run.model, "trainer")) is not None:
        return with_features(own)
    from recbole.utils import get_trainer

    return with_features(get_trainer(run.model_type, base_of(run.model)))
