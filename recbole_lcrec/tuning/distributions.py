"""What one option is drawn from: choice, uniform, loguniform, quniform, randint.

Every kind can be drawn from with a seeded generator, and the finite ones can be listed for a grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.options import check

KINDS = {
    "choice": "[value, value, ...]",
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "randint": "[low, high], high itself excluded",
}
_STEPS = (0.8, 1.2)
_RESAMPLE = 0.25


@dataclass(frozen=True)
class Dimension:
    """One option of a search space.

    Attributes:
        name: The option.
        kind: One of :data:`KINDS`.
        values: The values of a choice; low and high of the others, and the step of quniform.
        when: Other options and the values they must have for this one to count; all of them must hold.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def draw(self, generator: np.random.Generator) -> Any:
        """Return one value; for quniform low, low + step, ... up to high are equally likely."""
        if (points := self.points()) is not None:
            return points[int(generator.integers(len(points)))]
        low, high = self.values
        if self.kind == "loguniform":
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            value = generator.uniform(low, high)
        return self.clean(value)

    def points(self) -> tuple[Any, ...] | None:
        """Return every value of a finite kind, in order; None for uniform and loguniform."""
        if self.kind == "choice":
            return self.values
        if self.kind == "randint":
            return tuple(self.clean(value) for value in range(*self.values))
        if self.kind == "quniform":
            low, high, step = self.values
            count = math.floor((high - low) / step + 1e-9) + 1
            return tuple(self.clean(low + number * step) for number in range(count))
        return None

    def clean(self, value: float) -> Any:
        """Return a number with six significant digits, inside the range, in the type that the option takes."""
        if not isinstance(value, int):
            value = min(max(float(f"{value:.6g}"), self.values[0]), self.values[1])
        whole = all(isinstance(bound, int) for bound in self.values)
        return check(
            self.name, Given(int(value) if whole and value == int(value) else value, None, "the search space")
        )

    def perturb(self, value: Any, generator: np.random.Generator) -> Any:
        """Return a neighbour of a value, as pbt explores: 1 in 4 is drawn anew, numbers are multiplied by 0.8 or 1.2.

        Values of a finite kind move to the previous or the next one.
        """
        if generator.random() < _RESAMPLE:
            return self.draw(generator)
        points = self.points()
        if points is None:
            return self.clean(float(value) * _STEPS[int(generator.integers(2))])
        place = points.index(value) if value in points else 0
        return points[min(max(place + (-1, 1)[int(generator.integers(2))], 0), len(points) - 1)]

    def position(self, value: Any) -> float:
        """Return where a value stands on an axis: its index in a choice of anything but numbers, else the value.

        Values of loguniform are on a logarithmic scale.
        """
        if self.kind == "choice" and not self.is_numeric:
            return float(self.values.index(value))
        return math.log10(value) if self.kind == "loguniform" else float(value)

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values)
