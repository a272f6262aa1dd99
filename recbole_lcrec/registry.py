"""The one table of our components: model name -> model, dataset, train loader and trainer.

Everything that is not in the table falls through to RecBole, with our split and trainer features around it. Classes
are named as ``module:Class`` so that reading the table imports nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.errors import UserError, reason_of


@dataclass(frozen=True)
class Entry:
    """Where the four parts of a model are found, each as ``module:Class``; None falls through to RecBole's.

    Attributes:
        model: The model's class.
        dataset: Its data module.
        train_loader: Its loader of training batches.
        trainer: Its trainer.
        generative: Whether it recommends by generating paths of the item index with beams.
        ranks_candidates: Whether it only ranks candidates that it is given, and cannot search the whole catalogue.
    """

    model: str
    dataset: str | None = None
    train_loader: str | None = None
    trainer: str | None = None
    generative: bool = True
    ranks_candidates: bool = False


MODELS: dict[str, Entry] = {
    "LCRec": Entry(
        model="recbole_lcrec.model.lcrec:LCRec",
        dataset="recbole_lcrec.instruction.dataset:GenerativeDataset",
        train_loader="recbole_lcrec.instruction.loader:InstructionDataLoader",
        trainer="recbole_lcrec.training.trainer:FeatureTrainer",
    ),
    "TALLRec": Entry(
        model="recbole_lcrec.model.tallrec:TALLRec",
        dataset="recbole_lcrec.instruction.text_dataset:TALLRecDataset",
        train_loader="recbole_lcrec.instruction.loader:InstructionDataLoader",
        trainer="recbole_lcrec.training.trainer:FeatureTrainer",
        generative=False,
        ranks_candidates=True,
    ),
    "InstructRec": Entry(
        model="recbole_lcrec.model.instructrec:InstructRec",
        dataset="recbole_lcrec.instruction.text_dataset:InstructRecDataset",
        train_loader="recbole_lcrec.instruction.loader:InstructionDataLoader",
        trainer="recbole_lcrec.training.trainer:FeatureTrainer",
        generative=False,
        ranks_candidates=True,
    ),
    "ExactPop": Entry(model="recbole_lcrec.model.exact_pop:ExactPop", generative=False),
    "TIGER": Entry(
        model="recbole_lcrec.model.tiger:TIGER",
        dataset="recbole_lcrec.index.catalogue:CatalogueDataset",
        train_loader="recbole_lcrec.data.batches:SequenceDataLoader",
        trainer="recbole_lcrec.training.trainer:FeatureTrainer",
    ),
    "P5CID": Entry(
        model="recbole_lcrec.model.p5cid:P5CID",
        dataset="recbole_lcrec.instruction.p5:P5Dataset",
        train_loader="recbole_lcrec.data.batches:SequenceDataLoader",
        trainer="recbole_lcrec.training.trainer:FeatureTrainer",
    ),
}


def load(path: str) -> Any:
    """Import ``module:Class`` and return the class."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def is_generative(model: str) -> bool:
    """Return True for models that generate paths of an item index (they have an index, a trie and beams)."""
    return model in MODELS and MODELS[model].generative


def ranks_candidates(model: str) -> bool:
    """Return True for models that rank given candidates only (evaluation modes uniN and popN)."""
    return model in MODELS and MODELS[model].ranks_candidates


def model_class(model: str) -> Any:
    """Return the class of a registered model, or RecBole's class of that name.

    Raises:
        UserError: If RecBole has the model but a package that it needs is not installed.
        ValueError: If neither we nor RecBole know the name.
    """
    if model in MODELS:
        return load(MODELS[model].model)
    import torch
    from recbole.utils import get_model

    anomaly_detection = torch.is_anomaly_enabled()
    try:
        return get_model(model)
    except ImportError as error:
        raise missing_package(model, error) from error
    finally:
        # importing RecBole's SINE switches autograd's anomaly detection on for the whole process
        torch.autograd.set_detect_anomaly(anomaly_detection)


def make_model(config: Any, dataset: Any) -> Any:
    """Return ``config['model']`` for a training dataset, not yet on its device.

    Raises:
        UserError: If a package that the model needs is missing, a file that it starts from cannot be loaded, or
            RecBole refuses the options.
    """
    from recbole_lcrec.refusals import refusals_of_recbole

    cls = model_class(config["model"])
    try:
        with refusals_of_recbole(f"model {config['model']}"):
            return cls(config, dataset)
    except ImportError as error:
        raise missing_package(config["model"], error) from error
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        if not _is_about_weights(config, error):
            raise
        raise UserError(
            f"model {config['model']}: the file of weights that it starts from cannot be loaded ({reason_of(error)}). "
            f"Set {' or '.join(_weight_files(config))} to a file that a run of this package wrote."
        ) from error


def _weight_files(config: Any) -> dict[str, Path]:
    """Return the options of ``config['model']`` that name files of weights to start from: option -> file."""
    if config["model"] in MODELS:
        return {}
    options = ("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path")
    return {name: Path(config[name] or "") for name in options if name in config}


def _is_about_weights(config: Any, error: Exception) -> bool:
    """Return whether a constructor failed because of the file of weights that it starts from."""
    files = _weight_files(config)
    if isinstance(error, OSError):
        return error.filename is not None and Path(error.filename) in files.values()
    if isinstance(error, RuntimeError):  # what torch says of files that are cut short or of another model
        return bool(files) and any(words in str(error) for words in ("PytorchStreamReader", "loading state_dict"))
    return bool(files)


def missing_package(model: str, error: ImportError) -> UserError:
    """Return the error that says which package a model of RecBole needs."""
    return UserError(
        f"model {model} of RecBole needs the package '{error.name}', which is not installed. "
        f"Install it (pip install {error.name}) and run again."
    )


def _part(config: Any, name: str) -> str | None:
    """Return where a part of ``config['model']`` is found; None if RecBole's is to be used."""
    entry = MODELS.get(config["model"])
    return None if entry is None else getattr(entry, name)


def dataset_class(config: Any) -> type:
    """Return the dataset class of ``config['model']``: ours, or RecBole's with our split mixed in."""
    if (path := _part(config, "dataset")) is not None:
        return load(path)
    from recbole_lcrec.data.split import shared_split_class

    return shared_split_class(config)


def train_loader_class(config: Any) -> type:
    """Return the train data loader class of ``config['model']``."""
    if (path := _part(config, "train_loader")) is not None:
        return load(path)
    from recbole.data.utils import get_dataloader

    return get_dataloader(config, "train")


def trainer_class(config: Any) -> type:
    """Return the trainer class of ``config['model']``: RecBole's choice with our features mixed in."""
    from recbole_lcrec.training.trainer import with_features

    if (path := _part(config, "trainer")) is not None:
        return load(path)
    from recbole.utils import get_trainer

    return with_features(get_trainer(config["MODEL_TYPE"], config["model"]))
