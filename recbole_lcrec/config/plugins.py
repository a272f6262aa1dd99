"""Other people's components: installed packages, and files or modules that a user names.

Naming one runs its code. So only those named on the command line, in a file of options or in a Python call are loaded;
those that a saved run was made with are reported, not loaded: someone else may have written its folder.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_lcrec.config.names import recbole_models
from recbole_lcrec.config.registry import ENCODERS, MODELS, QUANTIZERS, register_model
from recbole_lcrec.utils.errors import UserError, shortened
from recbole_lcrec.utils.recbole_patches import same_anomaly_detection

GROUP = "recbole_lcrec.plugins"
LOADED: set[str] = set()
"""References to what this process has loaded or was given as a class, as other processes find them."""
_REFERENCE = re.compile(r"(?:(?<=,)|^)(?P<before>\s*)(?P<reference>[^\s(),=:]+:[A-Za-z_]\w*)(?=\s*(?:[(,]|$|\s+as\s))")


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Load the plugins among the installed packages, once.

    Raises:
        UserError: If one cannot be loaded, naming the package.
    """
    for point in importlib.metadata.entry_points(group=GROUP):
        package = point.dist.name if point.dist is not None else point.value
        try:
            found = point.load()
            if callable(found):
                found()
        except Exception as error:
            raise UserError(
                f"the plugin {point.name} of the installed package {package} cannot be loaded: {_brief(error)}. Fix "
                f"it, or remove it: pip uninstall {package}."
            ) from error


def load_reference(reference: str) -> str:
    """Import a file or a module and register the model that it names.

    Args:
        reference: ``path/to/file.py``, ``package.module``, or either with ``:Class``.

    Returns:
        The reference, in a form that works from any working directory.

    Raises:
        UserError: If it cannot be imported, or has no such model.
    """
    source, _, name = reference.partition(":")
    module, source = _module(source, reference)
    if name:
        model = getattr(module, name, None)
        if not isinstance(model, type):
            raise UserError(
                f"{reference}: {source} has no class {name}. Expected FILE.py:CLASS or PACKAGE.MODULE:CLASS."
            )
        adopt(model)
    found = f"{source}:{name}" if name else source
    LOADED.add(found)
    return found


def load_references(references: Iterable[Any]) -> list[str]:
    """Load several references; see :func:`load_reference`."""
    found = []
    for reference in references:
        if not isinstance(reference, str):
            raise UserError(
                f"option plugins has {shortened(reference)}; expected files or modules, perhaps with :Class"
            )
        found.append(load_reference(reference))
    return found


def named_in(text: str) -> tuple[str, list[str]]:
    """Load what option ``model`` refers to: ``own.py:Mine(x=1) as A,SASRec`` becomes ``Mine(x=1) as A,SASRec``.

    Returns:
        The text with the names of the models, and the references.
    """
    references = [load_reference(found["reference"]) for found in _REFERENCE.finditer(text)]
    return _REFERENCE.sub(lambda found: found["before"] + found["reference"].partition(":")[2], text), references


def adopt(model: type) -> tuple[str, str | None]:
    """Register a class under its own name, unless RecBole has it or it is registered already.

    Args:
        model: A recommender class of RecBole, of this package or of a user.

    Returns:
        Its name, and a reference by which another process finds it: None where no reference is needed or possible.

    Raises:
        UserError: If it is not a recommender, or its name is that of another model.
    """
    from recbole.model.abstract_recommender import AbstractRecommender

    name, where = model.__name__, f"{model.__module__}:{model.__qualname__}"
    if not issubclass(model, AbstractRecommender):
        raise UserError(f"{where} is not a recommender: expected a class derived from one of RecBole's or of ours.")
    if model.__module__.startswith("recbole.model.") and name in recbole_models():
        return name, None
    known = next((one.name for one in MODELS.components.values() if one.where == where), None)
    if known is None and name in recbole_models():
        raise UserError(f"model {name} is one of RecBole's, so {where} needs another name.")
    if known is None:
        register_model(name, model, defaults=own_defaults(model))
    reference = None if where.startswith("recbole_lcrec.") else _reference_of(model)
    if reference is not None:
        LOADED.add(reference)
    return known or name, reference


def own_defaults(model: type) -> Path | None:
    """Return the YAML of a class's own options: CLASS.yaml next to the file that defines it, if there is one."""
    file = _file_of(sys.modules.get(model.__module__))
    path = Path(file).with_name(f"{model.__name__}.yaml") if file else None
    return path if path is not None and path.is_file() else None


def without_unasked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a saved run, with only those of its plugins that have been loaded already.

    Args:
        path: Its config.yaml, for messages.
        values: What it holds.

    Raises:
        UserError: If the run needs a component that is not registered; it names the option to add, since the code of a
            saved run is not run unasked.
    """
    load_installed()
    model, quantizer = str(values.get("model")), values.get("quantizer")
    encoder = str(values.get("text_encoder", "lsa")).partition(":")[0]
    unknown = [] if model in MODELS or model in recbole_models() else [f"model {model}"]
    unknown += [f"quantizer {quantizer}"] if quantizer is not None and quantizer not in QUANTIZERS else []
    unknown += [] if encoder in ENCODERS else [f"text encoder {encoder}"]
    recorded = values.get("plugins")
    plugins = [one for one in recorded if isinstance(one, str)] if isinstance(recorded, list) else []
    if unknown:
        add = f'--plugins="[{", ".join(plugins)}]"' if plugins else f"--plugins=FILE.py:{model}"
        raise UserError(
            f"{path}: the run used the {' and the '.join(unknown)}, which neither RecBole nor this package has. Code "
            f"that a saved run names is run only if you ask for it: add {add} if you trust it, or install the package "
            "that has it."
        )
    return {**values, "plugins": [one for one in plugins if one in LOADED]}


def _file_of(module: ModuleType | None) -> str | None:
    """Return the file of a module; None for a notebook's or an interpreter's."""
    return getattr(module, "__file__", None)


def _reference_of(model: type) -> str | None:
    """Return the reference by which another process finds a class; None for a notebook's or a nested one."""
    module = sys.modules.get(model.__module__)
    file = _file_of(module)
    if module is None or file is None or "." in model.__qualname__:
        return None
    is_file = model.__module__ == "__main__" or model.__module__.startswith("_recbole_lcrec_plugin_")
    return f"{Path(file).absolute() if is_file else model.__module__}:{model.__name__}"


def _module(source: str, reference: str) -> tuple[ModuleType, str]:
    """Return the module that a reference means, and its source, which is absolute for a file."""
    is_file = source.endswith(".py")
    try:
        with same_anomaly_detection():
            if is_file:
                path = Path(source).expanduser().absolute()
                return _file_module(path), str(path)
            return importlib.import_module(source), source
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if not is_file and source.split(".")[0] == (error.name or "").split(".")[0]:
            raise UserError(
                f"{reference}: there is no module {source}. Expected FILE.py:CLASS, or PACKAGE.MODULE:CLASS of an "
                "installed package."
            ) from error
        raise UserError(
            f"{reference}: it needs the module {error.name}, which is not found. Install it, or set PYTHONPATH to the "
            "folder that has it."
        ) from error
    except Exception as error:  # a user's file may raise anything
        raise UserError(f"{reference}: cannot be imported: {_brief(error)}.") from error


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{path} does not exist. Expected a file FILE.py:CLASS, or a module PACKAGE.MODULE:CLASS.")
    name = f"_recbole_lcrec_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    main = sys.modules.get("__main__")
    if main is not None and Path(_file_of(main) or ".").absolute() == path:
        return main
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "the name of a file that ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    where = f", line {error.lineno} of {error.filename}" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}{f': {lines[0]}' if lines else ''}{where}"
