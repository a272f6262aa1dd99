"""The search space: which options a search varies, read from YAML and checked against the known options.

    learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
    tuning: {choice: [full, lora]}
    lora_r: {choice: [4, 8, 16], when: {tuning: lora}}

Nothing is evaluated. All mistakes of a file are reported together, each with file, line and option.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config.loader import Given, load_options
from recbole_lcrec.config.options import check, find_option
from recbole_lcrec.tuning.distributions import KINDS, Dimension
from recbole_lcrec.tuning.search_settings import tune_options
from recbole_lcrec.utils.errors import Mistakes, UserError, nearest

MOST_COMBINATIONS = 10_000

_MEASURES = "it changes what is measured, so that trials could not be compared"
_OF_THE_RUN = "it belongs to the whole search; give it on the command line"
REFUSED = {
    **dict.fromkeys(
        ("metrics", "topk", "valid_metric", "eval_args", "valid_users", "eval_task", "eval_prompts", "repeatable",
         "user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter", "benchmark_filename",
         "load_col", "cold_items"),
        _MEASURES,
    ),
    **dict.fromkeys(
        ("model", "dataset", "data_path", "output_dir", "checkpoint_dir", "cache_dir", "download", "dataset_url",
         "config_files", "evaluate", "stage", "use_gpu", "gpu_id", "show_progress", "state", "logger", "log_wandb",
         "wandb_project", "nproc", "world_size", "ip", "port", "group_offset", "parallel"),
        _OF_THE_RUN,
    ),
    "eval_step": "it says when trials are compared; give it on the command line",
    "seed": "a better seed is luck, not a better configuration",
}  # fmt: skip


@dataclass(frozen=True)
class Space:
    """Options and what they are drawn from, in the order of the file.

    Attributes:
        dimensions: One per option.
        source: Where the space was read, for messages.
    """

    dimensions: tuple[Dimension, ...]
    source: str = "the search space"

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise UserError(f"{self.source}: the search space is empty. Expected lines like 'learning_rate: "
                            "{loguniform: [1.0e-4, 1.0e-2]}'.")  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """The options that are varied."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def conditional(self) -> bool:
        """Whether an option counts only for some values of another."""
        return any(dimension.when for dimension in self.dimensions)

    def __getitem__(self, name: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.name == name)

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the options that count, in the order of the file."""
        return {name: values[name] for name in self.names if name in values and self._counts(name, values)}

    def _counts(self, name: str, values: Mapping[str, Any]) -> bool:
        return all(
            other in values and values[other] in allowed and self._counts(other, values)
            for other, allowed in self[name].when
        )

    def draw(self, generator: np.random.Generator) -> dict[str, Any]:
        """Return one configuration. All options draw a random number, even those that then do not count."""
        return self.active({dimension.name: dimension.draw(generator) for dimension in self.dimensions})

    def random(self, number: int, seed: int) -> list[dict[str, Any]]:
        """Return ``number`` different configurations, or all there are if a finite space has fewer.

        The first ones do not depend on ``number``: a larger search begins with those of a smaller one.
        """
        generator = np.random.default_rng(seed)
        found: list[dict[str, Any]] = []
        misses = 0
        while len(found) < number and misses < 1000:
            values = self.draw(generator)
            if values in found:
                misses += 1
            else:
                found.append(values)
        return found

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination, the last option varying fastest.

        Raises:
            UserError: If an option has no finite list of values, or there are too many combinations.
        """
        endless = [dimension.name for dimension in self.dimensions if dimension.points() is None]
        if endless:
            raise UserError(
                f"{self.source}: search_alg grid needs lists of values, but {', '.join(endless)} are drawn from a "
                "range (uniform, loguniform). Use choice, quniform or randint for them, or search_alg random."
            )
        lists = [dimension.points() or () for dimension in self.dimensions]
        total = math.prod(map(len, lists))
        if total > MOST_COMBINATIONS:
            raise UserError(
                f"{self.source}: the grid has {total:,} combinations, more than {MOST_COMBINATIONS:,}. Use fewer "
                "values, or search_alg random with num_samples."
            )
        found: list[dict[str, Any]] = []
        for combination in itertools.product(*lists):
            values = self.active(dict(zip(self.names, combination, strict=True)))
            if not self.conditional or values not in found:
                found.append(values)
        return found

    def as_values(self) -> dict[str, Any]:
        """Return the space as it is written in a file; ``read_space`` of it is the same space."""
        written: dict[str, Any] = {}
        for dimension in self.dimensions:
            written[dimension.name] = {dimension.kind: list(dimension.values)}
            if dimension.when:
                written[dimension.name]["when"] = {other: list(allowed) for other, allowed in dimension.when}
        return written


def load_space(path: Path, mistakes: Mistakes | None = None) -> Space:
    """Read a file with a search space; arguments and errors as for :func:`read_space`."""
    return read_space(load_options(path), str(path), mistakes)


def read_space(given: Mapping[str, Given], source: str, mistakes: Mistakes | None = None) -> Space:
    """Check the options of a search space.

    Args:
        given: Option -> what it is drawn from, with its place in the file.
        source: The file.
        mistakes: Collects what is wrong, and a space of the right options is returned; if None, mistakes are raised.

    Raises:
        UserError: One message for everything that is wrong with it.
    """
    found = Mistakes()
    dimensions: dict[str, Dimension] = {}
    for name, one in given.items():
        try:
            dimensions[name] = _dimension(name, one)
        except UserError as error:
            for mistake in error.mistakes:
                found.add(f"{one.source}: {mistake if mistake.startswith('option ') else f'option {name}: {mistake}'}")
    for name in list(dimensions):
        for message in _conditions(dimensions[name], dimensions, given):
            found.add(f"{given[name].source}: option {name}: {message}")
    if mistakes is None or not dimensions:
        found.finish()
    else:
        found.tell(mistakes)
    return Space(tuple(dimensions.values()), source)


def _dimension(name: str, given: Given) -> Dimension:
    """Return the dimension of one line of the file."""
    if name in tune_options() or name in REFUSED:
        raise UserError(f"cannot be searched: {REFUSED.get(name, 'it is an option of the search itself')}")
    try:
        option = find_option(name)
    except UserError as error:
        raise UserError(f"unknown.{nearest(name, _known()) or ' ' + str(error)}") from error
    body = given.value
    if not isinstance(body, dict):
        raise UserError(
            f"found {given.text or body!r}; expected one of {_kinds_text()}. A value for all trials belongs on the "
            f"command line (--{name}=...)"
        )
    body = dict(body)
    when = body.pop("when", {})
    if len(body) != 1:
        raise UserError(
            f"found {', '.join(map(str, body)) or 'no kind'}; expected one of {_kinds_text()}, and perhaps 'when'"
        )
    ((kind, values),) = body.items()
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind}.{nearest(str(kind), KINDS)} Known: {_kinds_text()}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{kind} is {values!r}; expected a list, {KINDS[kind]}")
    checked = _choices(name, values) if kind == "choice" else _range(name, kind, values, option.types)
    if kind != "choice":
        for end in (checked[0], checked[1] - 1 if kind == "randint" else checked[1]):
            check(name, Given(end, None, ""))  # then all values in between are in range, too
    return Dimension(name, kind, checked, _when(when))


def _known() -> list[str]:
    from recbole_lcrec.config.options import known_options, source_names

    return [option for option in [*known_options(), *source_names()] if option not in tune_options()]


def _kinds_text() -> str:
    return ", ".join(f"{{{kind}: {form}}}" for kind, form in KINDS.items())


def _choices(name: str, values: list[Any]) -> tuple[Any, ...]:
    checked, mistakes = [], Mistakes()
    for value in values:
        with mistakes.caught():
            checked.append(check(name, Given(value, None, "")))
    mistakes.finish()
    repeated = [value for place, value in enumerate(checked) if value in checked[:place]]
    if repeated:
        raise UserError(f"choice names {repeated[0]!r} twice")
    return tuple(checked)


def _range(name: str, kind: str, values: list[Any], types: frozenset[str]) -> tuple[Any, ...]:
    length = 3 if kind == "quniform" else 2
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if len(values) != length or not numbers or not all(map(math.isfinite, values)):
        raise UserError(f"{kind} is {values}; expected {length} numbers, {KINDS[kind]}")
    if not types & {"int", "float", "any"}:
        raise UserError(f"{kind} draws numbers, but the option takes {' or '.join(sorted(types))}. Use choice")
    low, high = values[:2]
    if not low < high:
        raise UserError(f"{kind} is {values}; expected low < high")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{kind} is {values}; expected low above 0")
    if kind == "quniform" and not 0 < values[2] <= high - low:
        raise UserError(f"{kind} is {values}; expected a step above 0 that fits between low and high")
    whole = all(isinstance(value, int) for value in values)
    only_whole = not types & {"float", "any"}
    if only_whole and kind in ("uniform", "loguniform"):
        raise UserError(f"{kind} draws fractions, but the option takes whole numbers. Use randint, quniform or choice")
    if (only_whole or kind == "randint") and not whole:
        raise UserError(f"{kind} is {values}; expected whole numbers")
    if "int" in types or "any" in types or kind == "randint":
        return tuple(values) if whole and kind in ("randint", "quniform") else tuple(map(float, values))
    return tuple(map(float, values))


def _when(when: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(when, dict) or any(isinstance(value, dict) for value in when.values()):
        raise UserError(f"when is {when!r}; expected another option and its value or values, {{option: value}}")
    return tuple((str(other), tuple(v if isinstance(v, list) else [v])) for other, v in when.items())


def _conditions(dimension: Dimension, known: Mapping[str, Dimension], given: Mapping[str, Given]) -> Iterator[str]:
    """Yield what is wrong with the conditions of a dimension."""
    for other, allowed in dimension.when:
        if other not in given:
            yield f"when names {other}, which the space does not vary.{nearest(other, given)}"
        elif other in known:
            points = known[other].points()
            if points is None:
                yield f"when names {other}, which is drawn from a range and never equals a value. Use choice for it"
                continue
            for value in allowed:
                if value not in points:
                    yield f"when asks for {other}={value!r}, which is never drawn; {other} has {list(points)}"
    if _in_a_circle(dimension.name, known):
        yield "its conditions lead back to itself"


def _in_a_circle(name: str, known: Mapping[str, Dimension]) -> bool:
    seen: set[str] = set()
    waiting = [other for other, _ in known[name].when]
    while waiting:
        other = waiting.pop()
        if other == name:
            return True
        if other in known and other not in seen:
            seen.add(other)
            waiting += [next_one for next_one, _ in known[other].when]
    return False
