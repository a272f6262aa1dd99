"""Hyperopt behind Ray's searcher: a space of ours in, named configurations out, the same again after a resume.

A resume asks and tells hyperopt everything that the journal holds, in the same order, and so brings it back into the
state it was in.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from recbole_lcrec.tuning.distributions import Dimension
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.utils.errors import UserError


def check_hyperopt(space: Space) -> None:
    """Refuse hyperopt if it is not installed, and options with several conditions.

    Raises:
        UserError: With what to do.
    """
    if importlib.util.find_spec("hyperopt") is None:
        raise UserError(
            'search_alg hyperopt needs the package hyperopt, which is not installed. Install it: pip install "'
            'recbole-lcrec[hyperopt]" (or pip install hyperopt).'
        )
    several = [dimension.name for dimension in space.dimensions if len(dimension.when) > 1]
    if several:
        raise UserError(
            f"{space.source}: search_alg hyperopt takes one condition per option, but {', '.join(several)} has "
            "several (when). Use search_alg random, or leave one."
        )


class NativeSpace:
    """A space in hyperopt's own form: options that depend on a value are in the branch of that value."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._shared: dict[str, Any] = {}
        self.tree = {d.name: self._expression(d) for d in space.dimensions if not d.when}

    def _children(self, name: str) -> list[Dimension]:
        return [d for d in self._space.dimensions if d.when and d.when[0][0] == name]

    def _expression(self, dimension: Dimension) -> Any:
        from hyperopt import hp  # type: ignore[import-not-found,import-untyped,unused-ignore]

        name, points, children = dimension.name, dimension.points(), self._children(dimension.name)
        if name in self._shared:  # an option that counts for several values is one variable
            return self._shared[name]
        if points is None:
            low, high = dimension.values
            logarithmic = dimension.kind == "loguniform"
            made = hp.loguniform(name, math.log(low), math.log(high)) if logarithmic else hp.uniform(name, low, high)
        elif children or dimension.kind == "choice":
            branches = []
            for place, value in enumerate(points):
                inside = {c.name: self._expression(c) for c in children if value in c.when[0][1]}
                branches.append({"place": place, "inside": inside})
            made = hp.choice(name, branches)
        else:
            made = hp.randint(name, len(points))
        self._shared[name] = made
        return made

    def values(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration that a suggestion of hyperopt means, in the order of the space."""
        found: dict[str, Any] = {}
        waiting = [suggested]
        while waiting:
            for name, value in waiting.pop().items():
                dimension = self._space[name]
                points = dimension.points()
                if points is None:
                    found[name] = dimension.clean(float(value))
                elif isinstance(value, Mapping):
                    found[name] = points[int(value["place"])]
                    waiting.append(value["inside"])
                else:
                    found[name] = points[int(value)]
        return self._space.active(found)
