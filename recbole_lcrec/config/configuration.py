"""RecBole's Config without its surprises.

RecBole's own Config reads sys.argv (even pytest's) and evaluates it, returns None for unknown options, overwrites
CUDA_VISIBLE_DEVICES and lets its sample.yaml win over everything but the user. :class:`LCRecConfig` overrides those
steps; what RecBole computes from the options (metric types, sampling arguments, ...) is left to it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.utils import ModelType

from recbole_lcrec.config import protocol, relations, sizing
from recbole_lcrec.config.declared import defaults_of
from recbole_lcrec.config.features import item_features
from recbole_lcrec.config.layers import KINDS, defaults, recbole_overall
from recbole_lcrec.config.loader import Given, load_values
from recbole_lcrec.config.loggers import chosen_loggers
from recbole_lcrec.config.named_files import PATHS, absolute
from recbole_lcrec.config.names import check_dataset, check_model, dataset_folder
from recbole_lcrec.config.parallel import check_parallel, device_of, take_place
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.plugins import load_installed
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.recbole_options import INSTEAD
from recbole_lcrec.config.registry import (
    base_of,
    components_with_options,
    has_index,
    model_class,
    ranks_candidates,
)
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.novelty import add_to_recbole
from recbole_lcrec.utils.recbole_patches import restore_numpy_names

add_to_recbole()

_COLUMN_OPTIONS = {
    "user_id": "USER_ID_FIELD",
    "item_id": "ITEM_ID_FIELD",
    "rating": "RATING_FIELD",
    "timestamp": "TIME_FIELD",
    "head_id": "HEAD_ENTITY_ID_FIELD",
    "relation_id": "RELATION_ID_FIELD",
    "tail_id": "TAIL_ENTITY_ID_FIELD",
    "entity_id": "ENTITY_ID_FIELD",
}


@contextmanager
def _complaints_of_recbole() -> Iterator[None]:
    """Re-raise RecBole's errors about option values as UserError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"RecBole refuses the options: {error}") from error


class LCRecConfig(Config):
    """All options of one run.

    Args:
        model: Name of the model; None takes option ``model`` from the files or dictionaries.
        dataset: Name of the data set; None takes option ``dataset`` likewise.
        config_files: YAML files of options, or one; later ones win.
        config_dict: Options that win over the files.
        cli: Options that win over everything, as read from the command line.
        has_data: Whether the data set has been loaded already, so that its files are not looked for.
        reading: Collects the mistakes; if None, they are raised.

    Raises:
        UserError: One for all mistakes in the options. With ``reading``, only if no configuration can be made.
    """

    parameters: dict[str, list[str]]
    _readers: tuple[set[str], ...] = ()

    def __init__(
        self,
        model: str | None = None,
        dataset: str | None = None,
        config_files: str | Path | Sequence[str | Path] = (),
        config_dict: Mapping[str, Any] | None = None,
        cli: Mapping[str, Any] | None = None,
        *,
        has_data: bool = False,
        reading: Reading | None = None,
    ) -> None:
        load_installed()
        self._reading = Reading() if reading is None else reading
        self._cli, given = arguments.options("cli", cli), arguments.options("config_dict", config_dict)
        self._has_data = has_data
        model = self._reading.model(model)
        for options in (given, self._cli):  # files may set options of the plugins named here
            self._reading.load_plugins({name: Given(value, None, "") for name, value in options.items()})
        try:
            super().__init__(model, arguments.name("dataset", dataset), arguments.paths(config_files), given)
            self._check_whole()
        except UserError as error:
            self._reading.relate(error.mistakes)
            self._reading.finish()
        except Exception:
            self._reading.finish()  # this failure follows from the mistakes found so far
            raise
        if reading is None:
            self._reading.finish()
        del self._reading, self._cli

    def _check_whole(self) -> None:
        """Note conflicts in the configuration that RecBole has completed."""
        self._reading.relate(protocol.problems(self))
        for check in (self._check_stage, lambda: check_parallel(self, self.model_class)):
            with self._reading.relating():
                check()

    @contextmanager
    def reads(self) -> Iterator[set[str]]:
        """Yield a set that collects the names of all options read while the block runs."""
        names: set[str] = set()
        self._readers += (names,)
        try:
            yield names
        finally:
            self._readers = tuple(reader for reader in self._readers if reader is not names)

    def _note(self, name: str) -> None:
        for names in self._readers:
            names.add(name)

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __contains__(self, name: str) -> bool:
        self._note(name)
        return super().__contains__(name)

    # Called by RecBole's constructor, in this order

    def compatibility_settings(self) -> None:
        """Restore numpy's old names; RecBole's own method asks for some that numpy 2 does not have."""
        restore_numpy_names()

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        # RecBole's lists are module globals, and one of them grows with every data set
        self.parameters = {name: list(options) for name, options in self.parameters.items()}

    def _build_yaml_loader(self) -> None:
        """Do nothing: our loader is in :mod:`recbole_lcrec.config.loader`; RecBole's changes yaml.FullLoader."""

    def _load_config_files(self, file_list: Sequence[str | Path]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path in file_list:
            values |= self._reading.file(path)
        return values

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        return self._reading.mapping(config_dict, "config_dict")

    def _load_cmd_line(self) -> dict[str, Any]:
        return self._reading.mapping(self._cli, "the command line")

    def _merge_external_config_dict(self) -> None:
        super()._merge_external_config_dict()
        self._reading.name_plugins(self.external_config_dict)

    def _get_model_and_dataset(self, model: str | None, dataset: str | None) -> tuple[str, Any, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        if not model or not dataset:
            missing = "model" if not model else "dataset"
            raise UserError(
                f"option {missing} is missing: give --{missing}=NAME, or {missing}: NAME in a config file."
            )
        check_model(model)
        return str(model), model_class(model), str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: Any, dataset: str) -> None:
        """Lay the YAMLs over each other: RecBole's, then ours."""
        self.internal_config_dict = defaults(model, model_class.type.name, dataset, self.external_config_dict)
        self.internal_config_dict["MODEL_TYPE"] = model_class.type

    def _get_final_config_dict(self) -> dict[str, Any]:
        given = copy.deepcopy(self.external_config_dict)
        options = self._composed(given)
        self._reading.relate([*protocol.metrics_problems(options), *relations.problems(base_of(self.model), options)])
        if wrong := self._reading.refused & given.keys():  # take defaults, so that the rest can be checked
            given = {name: value for name, value in given.items() if name not in wrong}
            options = self._composed(given)
        if "load_col" not in given:
            options["load_col"] = _columns_to_load(options)
        item_file = dataset_folder(self.dataset, options["data_path"]) / f"{self.dataset}.item"
        with self._reading.relating():
            options.update(item_features(base_of(self.model), options, given, item_file))
        if options["benchmark_filename"] is not None:
            _take_ready_split(options)
        return options

    def _composed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults overlaid with the given options, and the options that follow from others."""
        options = {**self.internal_config_dict, **given}
        for name in ("metrics", "topk"):
            options[name] = options[name] if isinstance(options[name], list) else [options[name]]
        if "eval_args" in given:  # RecBole would fill the gaps with a random split
            options["eval_args"] = {**self.internal_config_dict["eval_args"], **given["eval_args"]}
        if "train_neg_sample_args" not in given and self._samples_no_negatives(options):
            options["train_neg_sample_args"] = None
        elif isinstance(negatives := options["train_neg_sample_args"], dict):
            options["train_neg_sample_args"] = {**recbole_overall()["train_neg_sample_args"], **negatives}
        self._unsized = sizing.unsized(options)
        options.update(sizing.chosen(self._unsized, sizing.TYPICAL, options))
        options["sized_by_data"] = sorted({*options["sized_by_data"], *self._unsized})
        options["logger"], options["log_wandb"] = chosen_loggers(options), False  # wandb is ours, not RecBole's
        return options

    def _set_default_parameters(self) -> None:
        options = self.final_config_dict
        if not self._has_data and self._reading.knows_data:
            with self._reading.relating():
                check_dataset(self.dataset, options)
        folder = dataset_folder(self.dataset, options["data_path"])
        with _complaints_of_recbole():
            super()._set_default_parameters()
        options["data_path"] = str(folder)

    def _init_device(self) -> None:
        """Choose the device without touching CUDA_VISIBLE_DEVICES, which belongs to the user and to Ray."""
        options = self.final_config_dict
        if not self._reading.looking:
            with self._reading.relating():
                take_place(options)
        options["device"] = "cpu"  # in place of one that is refused
        with self._reading.relating():
            options["device"] = device_of(options)

    def _set_train_neg_sample_args(self) -> None:
        with _complaints_of_recbole():
            super()._set_train_neg_sample_args()

    # Ours

    def _samples_no_negatives(self, options: Mapping[str, Any]) -> bool:
        """Return True for models that rank against all items at once (cross-entropy): they need no negatives.

        RecBole demands null for most of them, and would train RepeatNet on sampled negatives as if they were targets.
        """
        if has_index(self.model) or ranks_candidates(self.model):
            return True
        return self.model_class.type == ModelType.SEQUENTIAL and options.get("loss_type") == "CE"

    def _check_stage(self) -> None:
        for name in ("seeds", "ablation"):
            if self[name] is not None:
                raise UserError(f"option {name} asks for a comparison of several runs: give it on the command line.")
        if self["stage"] == "index" and not has_index(self.model):
            raise UserError(f"option stage is index, but {self.model} has no item index. Leave stage out.")

    def without_use(self) -> list[str]:
        """Return the given options that belong to other models of this package, sorted."""
        folder = properties_dir()
        of_models = [
            *(folder / name for name in KINDS),
            *sorted((folder / "model").rglob("*.yaml")),
        ]
        names = {name for path in of_models for name in load_values(path)}
        names |= {name for component in components_with_options() for name in defaults_of(component)[0]}
        return sorted((names & self.external_config_dict.keys()) - self.internal_config_dict.keys())

    @property
    def unsized(self) -> tuple[str, ...]:
        """Names of the options that wait for the data."""
        return self._unsized

    def size_by(self, size: sizing.DataSize) -> dict[str, Any]:
        """Set the options that follow from the data, and return their values."""
        chosen = sizing.chosen(self._unsized, size, self.final_config_dict)
        self.final_config_dict.update(chosen)
        self._unsized = ()
        return chosen

    def resolved(self) -> dict[str, Any]:
        """Return all options as plain values that YAML can hold; None for those that wait for the data.

        ``LCRecConfig(config_dict=config.resolved())`` gives the same experiment from any working directory.
        """
        known = {**self.internal_config_dict, **self.external_config_dict}
        names = [name for name in known if name not in INSTEAD]
        options = {name: copy.deepcopy(self.final_config_dict[name]) for name in names}
        options |= {name: None for name in self._unsized}
        negatives = options["train_neg_sample_args"]
        if (
            negatives is not None and negatives["distribution"] == "none"
        ):  # RecBole's inner form of null, which it refuses
            options["train_neg_sample_args"] = None
        options["data_path"] = str(Path(options["data_path"]).absolute().parent)
        for name in PATHS & options.keys():
            options[name] = absolute(name, options[name])
        return {"model": self.model, "dataset": self.dataset, **options}


def _columns_to_load(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return load_col with the user's names for RecBole's columns, and with the time column of the interactions.

    RecBole's sample.yaml, which applies to every data set without a YAML, loads no time column, and without times
    there is no order; its column names are the defaults, regardless of USER_ID_FIELD and the like.
    """
    columns = options["load_col"]
    if columns is None:
        return None
    renamed = {
        part: [options[_COLUMN_OPTIONS[name]] if name in _COLUMN_OPTIONS else name for name in names]
        for part, names in columns.items()
    }
    time = options["TIME_FIELD"]
    if isinstance(renamed.get("inter"), list) and time not in renamed["inter"]:
        renamed["inter"] = [*renamed["inter"], time]
    return {part: [name for name in names if name is not None] for part, names in renamed.items()}


def _take_ready_split(options: dict[str, Any]) -> None:
    """Make RecBole read the histories in pre-split files, whose items share the ids of the targets."""
    if isinstance(options["load_col"], dict):
        options["load_col"] = {**options["load_col"], "inter": "*"}
    history = f"{options['ITEM_ID_FIELD']}{options['LIST_SUFFIX']}"
    options["alias_of_item_id"] = sorted({*(options.get("alias_of_item_id") or []), history})
