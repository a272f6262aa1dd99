"""The one registry: models, quantizers, text encoders and converters, ours and those of plugins.

Our components are registered at the end of this module by the same calls that plugins use: :func:`register_model`,
:func:`register_quantizer`, :func:`register_encoder` and :func:`register_converter`. What is registered is an object or
``"module:name"``, which is imported on first use; so reading the registry imports nothing heavy. Plugins'
components come

- from an installed package with an entry point of the group ``recbole_lcrec.plugins``: a module that registers them
  when it is imported, or a function without arguments that does so;
- from option ``plugins``, and from ``--model=path/to/file.py:Class`` or ``--model=package.module:Class``: see
  :mod:`recbole_lcrec.config.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.utils.errors import UserError, nearest
from recbole_lcrec.utils.importing import importing
from recbole_lcrec.utils.recbole_patches import same_anomaly_detection

Defaults = str | Path | Mapping[str, Any] | type | None
"""Options of a component with their defaults: a YAML file whose comments declare them as those of properties/ do, a
mapping, or a dataclass whose fields all have defaults."""


@dataclass(frozen=True)
class Component:
    """Something that a user can name.

    Attributes:
        name: Its name on the command line and in YAML files.
        target: The object, or ``"module:name"``.
        defaults: Its options with their defaults; None if it has none of its own.
        text: One line for ``--help``.
    """

    name: str
    target: Any
    defaults: Defaults = None
    text: str = ""

    @property
    def where(self) -> str:
        """Where it is defined, for messages."""
        if isinstance(self.target, str):
            return self.target
        return f"{getattr(self.target, '__module__', '')}:{getattr(self.target, '__qualname__', self.name)}"

    def load(self) -> Any:
        """Return the object; ``"module:name"`` is imported."""
        return load(self.target) if isinstance(self.target, str) else self.target

    @property
    def version(self) -> str:
        """What cache keys need to know of its code: a hash of a plugin's file, "" for our own."""
        found = self.load()
        module = inspect.getmodule(found if callable(found) else found.compute)
        if module is None or module.__name__.startswith("recbole_lcrec.") or not module.__file__:
            return ""
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()


@dataclass(frozen=True)
class RegisteredModel(Component):
    """A model and its parts; parts that are None are taken from the model that its class is derived from.

    Attributes:
        dataset: Its data module, a class or ``"module:Class"``; likewise ``train_loader`` and ``trainer``.
        generative: Whether it recommends by generating paths of the item index with beams.
        ranks_candidates: Whether it only ranks candidates that it is given.
        index: Whether its items have paths of codes; a generative model has an index even if this is None.
        embeddings: Whether it reads the items' embeddings; a model with an index does even if this is None.
        base: Name of the model of ours or of RecBole that it is derived from. Plugins leave it out, and their class
            decides; so do our models that are derived from none.
    """

    dataset: Any = None
    train_loader: Any = None
    trainer: Any = None
    generative: bool | None = None
    ranks_candidates: bool | None = None
    index: bool | None = None
    embeddings: bool | None = None
    base: str | None = None


_Component = TypeVar("_Component", bound=Component)


@dataclass
class Components(Generic[_Component]):
    """Components of one kind by their names, in the order in which they were registered.

    Attributes:
        kind: What they are, for messages.
    """

    kind: str
    components: dict[str, _Component] = field(default_factory=dict)

    def add(self, component: _Component) -> None:
        """Register a component; the same one may be added again, as when a module is imported twice.

        Raises:
            UserError: If another one has its name already.
        """
        if not component.name.isidentifier():
            raise UserError(
                f"{self.kind} {component.name!r} ({component.where}): expected a name of letters, digits and "
                "underscores that does not begin with a digit."
            )
        known = self.components.get(component.name)
        if known is not None and known != component:
            raise UserError(
                f"{self.kind} {component.name} is registered by {known.where} already, so {component.where} needs "
                "another name."
            )
        self.components[component.name] = component

    def __contains__(self, name: object) -> bool:
        return name in self.components

    def __getitem__(self, name: str) -> _Component:
        """Return a component.

        Raises:
            UserError: For a name that is not registered.
        """
        if name not in self.components:
            raise UserError(
                f"unknown {self.kind} {name}.{nearest(name, self.components)} Known: {', '.join(self.components)}."
            )
        return self.components[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self.components)


MODELS: Components[RegisteredModel] = Components("model")
QUANTIZERS: Components[Component] = Components("quantizer")
ENCODERS: Components[Component] = Components("text encoder")
CONVERTERS: Components[Component] = Components("converter")


def load(reference: str) -> Any:
    """Import ``module:name`` and return the object."""
    module, name = reference.split(":")
    if module not in sys.modules:
        with same_anomaly_detection(), importing():  # a module may import RecBole's
            importlib.import_module(module)
    return getattr(sys.modules[module], name)


def register_model(
    name: str,
    model: type | str,
    *,
    dataset: type | str | None = None,
    train_loader: type | str | None = None,
    trainer: type | str | None = None,
    generative: bool | None = None,
    ranks_candidates: bool | None = None,
    index: bool | None = None,
    embeddings: bool | None = None,
    base: str | None = None,
    defaults: Defaults = None,
    text: str = "",
) -> None:
    """Make a model known under a name: ``--model=NAME``, in comparisons, searches and Python.

    A RecBole recommender needs nothing but its class. Parts that are left out are taken from the model of this package
    or of RecBole that its class is derived from, defaults included; otherwise they are RecBole's ordinary ones.

    Args:
        name: Its name.
        model: Its class, or ``"module:Class"``.
        dataset: Its data module; likewise ``train_loader`` and ``trainer``.
        generative: Whether it generates paths of the item index.
        ranks_candidates: Whether it ranks given candidates only.
        index: Whether its items have paths of codes, generated or not: it then gets the options of
            properties/index.yaml.
        embeddings: Whether it reads the items' embeddings: it then gets the options of properties/embedding.yaml.
        base: Name of the model that its class is derived from, to be known without importing the class.
        defaults: Its own options: a YAML file, a mapping or a dataclass.
        text: One line for ``--help``.

    Raises:
        UserError: If the name is taken.
    """
    MODELS.add(
        RegisteredModel(
            name, model, defaults, text, dataset, train_loader, trainer, generative, ranks_candidates,
            index, embeddings, base,
        )
    )  # fmt: skip


def register_quantizer(name: str, quantizer: type | str, *, defaults: Defaults = None, text: str = "") -> None:
    """Make a quantizer known: ``quantizer: NAME``.

    Args:
        name: Its name.
        quantizer: A :class:`recbole_lcrec.quantizer.Quantizer`, or ``"module:Class"``. Its ``fit`` finds the options
            of ``defaults`` in ``settings.own``.
        defaults: Its own options: a YAML file, a mapping or a dataclass.
        text: One line for ``--help``.

    Raises:
        UserError: If the name is taken.
    """
    QUANTIZERS.add(Component(name, quantizer, defaults, text))


def register_encoder(name: str, encoder: Any, *, defaults: Defaults = None, text: str = "") -> None:
    """Make an encoder of item texts known: ``text_encoder: NAME`` or ``text_encoder: NAME:source``.

    Args:
        name: Its name.
        encoder: A :class:`recbole_lcrec.embedding.Encoder`, or ``"module:name"`` of one. It finds the options of
            ``defaults`` in ``task.settings.own``.
        defaults: Its own options: a YAML file, a mapping or a dataclass.
        text: One line for ``--help``.

    Raises:
        UserError: If the name is taken.
    """
    ENCODERS.add(Component(name, encoder, defaults, text))


def register_converter(name: str, converter: Any, *, text: str = "") -> None:
    """Make a converter known: ``python -m recbole_lcrec.convert NAME``.

    Args:
        name: Its name.
        converter: A :class:`recbole_lcrec.convert.Converter`, or ``"module:name"`` of one.
        text: One line for ``--help``.

    Raises:
        UserError: If the name is taken.
    """
    CONVERTERS.add(Component(name, converter, None, text))


def components_with_options() -> list[Component]:
    """Return all components that were registered with options of their own."""
    tables: tuple[Components[Any], ...] = (MODELS, QUANTIZERS, ENCODERS)
    return [one for table in tables for one in table.components.values() if one.defaults is not None]


def model_class(model: str) -> Any:
    """Return the class of a registered model, or RecBole's class of that name.

    Raises:
        UserError: If RecBole has the model but a package that it needs is not installed.
        ValueError: If neither we nor RecBole know the name.
    """
    if model in MODELS:
        return MODELS[model].load()
    from recbole.utils import get_model

    try:
        with same_anomaly_detection():
            return get_model(model)
    except ImportError as error:
        raise missing_package(model, error) from error


def missing_package(model: str, error: ImportError) -> UserError:
    """Return the error that says which package a model needs."""
    return UserError(
        f"model {model} needs the package '{error.name}', which is not installed. "
        f"Install it (pip install {error.name}) and run again."
    )


def is_ours(model: str) -> bool:
    """Return whether a model belongs to this package."""
    return model in MODELS and MODELS[model].where.startswith("recbole_lcrec.")


def base_of(model: str) -> str:
    """Return the model of this package or of RecBole that a registered one is derived from; for any other, itself.

    It is the base given at registration. For a plugin's model without one, the class decides: the first of its base
    classes that has a name in the registry or in RecBole.
    """
    if model in MODELS and (base := MODELS[model].base) is not None:
        return base_of(base)
    if model not in MODELS or is_ours(model):
        return model
    ours = {component.where: name for name, component in MODELS.components.items() if name != model}
    for cls in model_class(model).__mro__[1:]:
        if (name := ours.get(f"{cls.__module__}:{cls.__qualname__}")) is not None:
            return base_of(name)
        if cls.__module__.startswith("recbole.model.") and cls.__module__.endswith(f".{cls.__name__.lower()}"):
            return str(cls.__name__)
    return model


def part(model: str, name: str) -> Any:
    """Return a part of a model: its own, or that of the registered model that it is derived from; None for RecBole's.

    Args:
        model: The model's name.
        name: An attribute of :class:`RegisteredModel` beyond those of every component.
    """
    for one in (model, base_of(model)):
        found = vars(MODELS[one])[name] if one in MODELS else None
        if found is not None:
            return load(found) if isinstance(found, str) else found
    return None


def is_generative(model: str) -> bool:
    """Return True for models that generate paths of an item index (they have an index, a trie and beams)."""
    return bool(part(model, "generative"))


def has_index(model: str) -> bool:
    """Return True for models whose items have paths of codes, whether they are generated or not."""
    return bool(part(model, "index")) or is_generative(model)


def reads_embeddings(model: str) -> bool:
    """Return True for models that read the items' embeddings, or codes made from them."""
    return bool(part(model, "embeddings")) or has_index(model)


def ranks_candidates(model: str) -> bool:
    """Return True for models that rank given candidates only (evaluation modes uniN and popN)."""
    return bool(part(model, "ranks_candidates"))


def _register_ours() -> None:
    trainer = "recbole_lcrec.training.trainer:FeatureTrainer"
    loader: dict[str, Any] = {"train_loader": "recbole_lcrec.instruction.loader:InstructionDataLoader"}
    loader["trainer"] = trainer
    sequences = {**loader, "train_loader": "recbole_lcrec.data.batches:SequenceDataLoader"}
    preferences = {**loader, "trainer": "recbole_lcrec.training.preference_stage:PreferenceTrainer"}
    register_model(
        "LCRec", "recbole_lcrec.model.lcrec:LCRec", generative=True,
        dataset="recbole_lcrec.instruction.dataset:LCRecDataset", **preferences,
    )  # fmt: skip
    for name, module in (("TALLRec", "tallrec"), ("InstructRec", "instructrec")):
        register_model(
            name, f"recbole_lcrec.model.{module}:{name}", ranks_candidates=True,
            dataset=f"recbole_lcrec.instruction.text_dataset:{name}Dataset", **loader,
        )  # fmt: skip
    register_model("ExactPop", "recbole_lcrec.model.exact_pop:ExactPop")
    register_model(
        "TIGER", "recbole_lcrec.model.tiger:TIGER", generative=True,
        dataset="recbole_lcrec.index.catalogue:CatalogueDataset", **sequences,
    )  # fmt: skip
    register_model(
        "P5CID", "recbole_lcrec.model.p5cid:P5CID", generative=True,
        dataset="recbole_lcrec.instruction.p5:P5Dataset", **sequences,
    )  # fmt: skip
    register_model("LIGER", "recbole_lcrec.model.liger:LIGER", base="LCRec")
    register_model(
        "SASRecText", "recbole_lcrec.model.sasrec_text:SASRecText", base="SASRec", embeddings=True,
        dataset="recbole_lcrec.embedding.items:EmbeddedDataset",
    )  # fmt: skip
    register_model(
        "RPG", "recbole_lcrec.model.rpg:RPG", index=True, dataset="recbole_lcrec.index.catalogue:CatalogueDataset",
        train_loader="recbole_lcrec.data.batches:WindowDataLoader", trainer=trainer,
    )  # fmt: skip
    quantizers = "recbole_lcrec.quantizer"
    register_quantizer("rqvae", f"{quantizers}.rqvae:RQVAE", text="residual-quantized autoencoder")
    register_quantizer("rkmeans", f"{quantizers}.rkmeans:ResidualKMeans", text="residual k-means")
    register_quantizer("opq", f"{quantizers}.opq:OPQ", text="optimised product quantization")
    register_quantizer("cid", f"{quantizers}.cid:CollaborativeIndexing", text="clusters of training co-occurrence")
    register_quantizer(
        "letter", f"{quantizers}.letter:LETTER", defaults=properties_dir() / "quantizer" / "letter.yaml",
        text="rqvae aligned with a trained recommender, with diverse codes",
    )  # fmt: skip
    register_quantizer("random", f"{quantizers}.random_paths:RandomPaths", text="no meaning, for ablations")
    encoders = "recbole_lcrec.embedding.encoders"
    register_encoder("lsa", f"{encoders}:LSA", text="TF-IDF and truncated SVD, offline")
    register_encoder("hf", f"{encoders}:HUGGING_FACE", text="any encoder or language model of transformers")
    register_encoder("file", f"{encoders}:READY_FILE", text="a file of vectors")
    converters = "recbole_lcrec.convert.kinds"
    for year in (2014, 2018, 2023):
        register_converter(f"amazon{year}", f"{converters}:AMAZON", text=f"Amazon reviews of {year} with metadata")
    register_converter("lcrec", f"{converters}:LCREC", text="a folder with <name>.inter.json and <name>.item.json")
    register_converter("table", f"{converters}:TABLE", text="CSV, TSV or Parquet tables of your own")


_register_ours()
