"""The command line of a search: all that is wrong with it is said at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import Given, load_values
from recbole_lcrec.config.names import is_model
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.reading import Reading, check_names, read_files
from recbole_lcrec.tuning.schedulers import changeable_mistakes
from recbole_lcrec.tuning.search_settings import SearchSettings, read_settings, space_file, tune_options
from recbole_lcrec.tuning.space import Space, load_space
from recbole_lcrec.utils.errors import UserError


def parse_search(given: dict[str, Given], config_files: Sequence[str], reading: Reading) -> Callable[[], Any]:
    """Return the search that a command line asks for, as a function that runs it.

    Args:
        given: Arguments of the command line, ``tune`` or ``resume_tune`` among them, without ``config_files``.
        config_files: The files that it names.
        reading: Collects the mistakes.

    Raises:
        UserError: One message for everything that is wrong.
    """
    space, folder = given.pop("tune", None), given.pop("resume_tune", None)
    for name in [name for name in ("evaluate", "resume") if name in given]:
        del given[name]
        reading.add(f"the command line: --{name} does not go with a search, which tests its best trial itself")
    options = reading.checked(given)
    if folder is not None:
        return _resumed(folder, {**read_files(config_files, reading), **options}, space is not None, reading)
    assert space is not None
    options = {**read_files(config_files, reading), **options}
    reading.name_plugins(options)
    merged = {**load_values(properties_dir() / "overall.yaml"), **options}
    check_names(merged, reading)
    if options.get("stage", "all") != "all":
        reading.add(f"option stage is {options['stage']}: a search trains and validates. Leave stage out")
    if any(options.get(name) not in (None, 1, -1) for name in ("nproc", "world_size")):
        reading.add("option nproc: every trial of a search is one process. Leave it out; trials run side by side")
    if str(options.get("gpu_id", "0")) != "0":
        reading.add(
            "option gpu_id: a search gives its trials GPUs itself. Set CUDA_VISIBLE_DEVICES to those it may use"
        )
    settings = _tried(reading, lambda: read_settings(options))
    found = _tried(reading, lambda: load_space(space_file(str(merged.get("model")), space.text), reading))
    if settings is not None and found is not None:
        reading.relate(_contradictions(settings, found))
    rest = {n: value for n, value in options.items() if n not in tune_options() and n not in ("model", "dataset")}

    def check_whole() -> None:
        from recbole_lcrec.tuning.search_checks import check_search

        check_search(merged["model"], merged["dataset"], rest, found, settings, reading)

    reading.finish(check_whole if merged.get("dataset") and is_model(str(merged.get("model"))) else None)
    assert settings is not None and found is not None

    def start() -> Any:
        from recbole_lcrec.tuning.search import search

        return search(merged["model"], merged["dataset"], rest, found, settings)

    return start


def _resumed(folder: Given, options: dict[str, Any], also_tune: bool, reading: Reading) -> Callable[[], Any]:
    path = Path(folder.text or "")
    if not (path / "search.json").is_file():
        reading.add(f"the command line: --resume_tune={folder.text} is not the folder of a search: "
                    f"{path / 'search.json'} does not exist")  # fmt: skip
    others = [name for name in options if name not in tune_options()] + (["tune"] if also_tune else [])
    if others:
        reading.add(f"the command line: {', '.join(f'--{name}' for name in others)} cannot go with --resume_tune, "
                    "which takes all that from the search; only options of a search may change")  # fmt: skip
    reading.finish()

    def start() -> Any:
        from recbole_lcrec.tuning.search import resume

        return resume(path, options)

    return start


def _contradictions(settings: SearchSettings, space: Space) -> Iterator[str]:
    """Yield what the scheduler or the search algorithm cannot use of a space."""
    try:
        if settings.search_alg == "grid":
            space.grid()
        if settings.search_alg == "hyperopt":
            from recbole_lcrec.tuning.tpe import check_hyperopt

            check_hyperopt(space)
    except UserError as error:
        yield str(error)
    if settings.scheduler == "pbt":
        yield from changeable_mistakes(space)


def _tried(reading: Reading, step: Callable[[], Any]) -> Any:
    """Return what a step returns; None if it finds mistakes, which are collected."""
    try:
        return step()
    except UserError as error:
        for mistake in error.mistakes:
            reading.add(mistake)
        return None
