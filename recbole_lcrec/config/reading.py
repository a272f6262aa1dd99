"""Options as they are read, from files, mappings and the command line: all mistakes in one answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_lcrec.config.domain import bounds_problem
from recbole_lcrec.config.loader import Given, load_options, parse_value
from recbole_lcrec.config.names import check_dataset, check_model
from recbole_lcrec.config.options import check
from recbole_lcrec.config.overview import usage
from recbole_lcrec.config.plugins import adopt, load_references, named_in
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import Mistakes, UserError, clipped

_WHERE_DATA_ARE = {"data_path", "dataset_url", "download", "benchmark_filename"}


class Reading(Mistakes):
    """Checks options as they are read, and collects every mistake of a command until :meth:`finish`.

    An option that is refused keeps its default, so that what comes later can be checked together with it.

    Attributes:
        refused: Options that are unknown, or whose given value is wrong or conflicts with others.
        plugins: References to what was loaded for these options, as other processes find them.
        looking: Whether this is only a search for mistakes, in which nothing may be started.
    """

    looking = False

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.plugins: list[str] = []
        self._places: dict[str, str] = {}

    @contextmanager
    def relating(self) -> Iterator[None]:
        """Note what the block raises about options that do not go together; see :meth:`relate`."""
        try:
            yield
        except UserError as error:
            self.relate(error.mistakes)

    def relate(self, messages: Iterable[str]) -> None:
        """Note conflicts between options, with the file that sets one of them.

        Messages about an option that was refused before are left out: they concern its default, not what the user
        meant.
        """
        before = frozenset(self.refused)
        for message in messages:
            words = re.findall(r"\w+", message)
            if before.isdisjoint(words):
                place = next((self._places[word] for word in words if word in self._places), "")
                self.add(f"{place}: {message}" if place and place not in message else message)
                if words[0] == "option":
                    self.refused.add(words[1])

    @property
    def knows_data(self) -> bool:
        """Whether it is known where the data are: no option that says so was refused."""
        return not self.refused & _WHERE_DATA_ARE

    def load_plugins(self, given: Mapping[str, Given]) -> dict[str, Given]:
        """Return options whose ``model`` holds names only, after loading what it and ``plugins`` refer to."""
        options = dict(given)
        try:
            plugins = options.get("plugins")
            if plugins is not None and isinstance(plugins.value, list):
                self._keep(load_references(plugins.value))
            model = options.get("model")
            if model is not None and isinstance(model.value, str) and ":" in model.value:
                text, references = named_in(model.value)
                self._keep(references)
                options["model"] = replace(model, value=text, text=text)
        except UserError as error:
            self.refused |= {"model", "plugins"}
            self.add(str(error))
        return options

    def _keep(self, references: Iterable[str]) -> None:
        self.plugins = list(dict.fromkeys([*self.plugins, *references]))

    def name_plugins(self, options: dict[str, Any]) -> None:
        """Make ``options`` name all that was loaded for them, also what several sources or ``model`` named."""
        if self.plugins:
            options["plugins"] = list(self.plugins)

    def model(self, value: Any) -> str | None:
        """Return the name of the model that a Python caller gives by name, by reference or as a class.

        Raises:
            UserError: For anything else.
        """
        if isinstance(value, type):
            name, reference = adopt(value)
            self._keep([] if reference is None else [reference])
            return name
        given = arguments.name("model", value)
        if given is None or ":" not in given:
            return given
        name, references = named_in(given)
        self._keep(references)
        return name

    def checked(self, given: Mapping[str, Given]) -> dict[str, Any]:
        """Return name -> checked value; mistakes are kept for :meth:`finish`.

        Components named by ``plugins`` or by references in ``model`` are loaded first, so their options are known.
        """
        values: dict[str, Any] = {}
        for name, one in self.load_plugins(given).items():
            try:
                values[name] = check(name, one)
            except UserError as error:
                self.refused.add(name)
                self.add(f"{one.source}: {error}")
        return values

    def file(self, path: str | Path) -> dict[str, Any]:
        """Return the checked options of a YAML file."""
        try:
            given = load_options(path)
        except UserError as error:
            self.add(str(error))
            return {}
        self._places |= {name: one.source for name, one in given.items()}
        return self.checked(given)

    def mapping(self, values: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return the checked options of a Python mapping."""
        for name in values.keys() & self._places.keys():
            del self._places[name]
        return self.checked({str(name): Given(value, None, source) for name, value in values.items()})

    def finish(self, further: Callable[[], Any] | None = None) -> None:
        """Raise all mistakes as one error.

        Args:
            further: Looks for mistakes that only torch and RecBole can find. It is called only if there are mistakes
                already, so that one answer has them all; otherwise the command meets them on its way.

        Raises:
            UserError: One message for all mistakes, if there are any.
        """
        if self.failed and further is not None:
            self.looking = True
            with self.relating():
                further()
        super().finish()


def read_files(files: Iterable[str | Path], reading: Reading) -> dict[str, Any]:
    """Return the options of several YAML files; later files win."""
    values: dict[str, Any] = {}
    for path in files:
        values |= reading.file(path)
    return values


def read_arguments(argv: Sequence[str], reading: Reading) -> dict[str, Given]:
    """Split arguments of the form ``--name=value``; the values are YAML, not checked yet. ``--tune`` needs none.

    Mistakes (another form, an option given twice) are added to ``reading``.
    """
    given: dict[str, Given] = {}
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        equals = "=" if argument == "--tune" else equals
        if not argument.startswith("--") or not equals or not name:
            reading.add(
                f"the command line: cannot read '{clipped(argument)}'; expected --name=value, without blanks around "
                "'='"
            )
        elif (problem := bounds_problem(argument)) is not None:
            reading.refused.add(name)
            reading.add(f"the command line: cannot read '{clipped(argument)}', {problem}")
        elif name in given:
            reading.add(f"the command line: option {clipped(name)} is given twice")
        else:
            given[name] = parse_value(text, "the command line")
    return given


def check_names(options: Mapping[str, Any], reading: Reading, names: Sequence[str] = ("model", "dataset")) -> None:
    """Add what is wrong with the model and the data set of ``options`` to ``reading``."""
    missing = [name for name in names if not options.get(name)]
    if missing and not reading.failed:  # an unreadable argument or file may be the one that names them
        reading.add(f"{' and '.join(f'--{name}=NAME' for name in missing)} missing.\n{usage()}\n--help tells more.")
    checks: dict[str, Callable[[str], None]] = {
        "model": check_model,
        "dataset": lambda name: check_dataset(name, options),
    }
    for name in names:
        if name not in missing and (name != "dataset" or reading.knows_data):
            try:
                checks[name](options[name])
            except UserError as error:
                reading.add(str(error))
