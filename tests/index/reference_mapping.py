"""The mapping again, as plainly as it can be said: lists, counting by scanning, one item at a time.

The fast one must give exactly the same paths. Prices are asked for row by row; they do not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from recbole_lcrec.index.spill import NEIGHBOURS
from recbole_lcrec.quantizer.costs import Costs

Path = tuple[int, ...]


class Reference:
    """Places new items beside fixed ones.

    Args:
        fixed: int64 [n, L], distinct paths.
        codes: int64 [m, L], the new items' nearest codes.
        level_sizes: Codes of each level.
        costs: Of rows of ``codes``.
    """

    def __init__(self, fixed: np.ndarray, codes: np.ndarray, level_sizes: Sequence[int], costs: Costs) -> None:
        self.fixed = [tuple(path) for path in fixed.tolist()]
        self.paths: list[Path | None] = [tuple(path) for path in codes.tolist()]
        self.came = list(self.paths)
        self.sizes, self.costs = tuple(level_sizes), costs
        self.rooms = [math.prod(self.sizes[level:]) for level in range(len(self.sizes) + 1)]
        self.capped: set[Path] = set()  # over-full prefixes, which count as full while their surplus is chosen

    def run(self) -> np.ndarray:
        spilled: set[int] = set()
        for level in range(1, len(self.sizes)):
            spilled |= self.spill(level)
        self.assign(spilled)
        return np.array(self.paths)

    def price(self, row: int, prefix: Path) -> np.ndarray:
        return self.costs(np.array([row]), np.array(prefix, dtype=np.int64).reshape(1, -1))[0]

    def under(self, prefix: Path) -> list[int]:
        return [row for row, path in enumerate(self.paths) if path is not None and path[: len(prefix)] == prefix]

    def count(self, prefix: Path) -> int:
        level = len(prefix)
        surplus = sum(self.count_all(full) - self.rooms[len(full)] for full in self.capped if full[:level] == prefix)
        return self.count_all(prefix) - surplus

    def count_all(self, prefix: Path) -> int:
        return len(self.under(prefix)) + sum(path[: len(prefix)] == prefix for path in self.fixed)

    def has_room(self, prefix: Path) -> bool:
        return self.count(prefix) < self.rooms[len(prefix)]

    def spill(self, level: int) -> set[int]:
        prefixes = sorted({path[:level] for path in self.paths if path is not None})
        over_full = [prefix for prefix in prefixes if self.count_all(prefix) > self.rooms[level]]
        self.capped = set(over_full)
        leaving = [pair for prefix in over_full for pair in self.leaving(prefix)]
        self.capped = set()
        for _, row in leaving:
            self.paths[row] = None
        for _, row in sorted(leaving):
            options = [
                (price, order, code, prefix)
                for order, prefix in enumerate(self.neighbours(row, level))
                for code, price in enumerate(self.price(row, prefix))
                if (*prefix, code) not in self.fixed and (*prefix, code) not in self.paths
            ]
            _, _, code, prefix = min(options)
            self.paths[row] = (*prefix, code)
        return {row for _, row in leaving}

    def leaving(self, prefix: Path) -> list[tuple[float, int]]:
        rows = self.under(prefix)
        surplus = self.count_all(prefix) - self.rooms[len(prefix)]
        elsewhere = {
            row: min(self.price(row, option).min() for option in self.neighbours(row, len(prefix))) for row in rows
        }
        if len(prefix) == len(self.sizes) - 1:
            free = [code for code in range(self.sizes[-1]) if (*prefix, code) not in self.fixed]
            gains = np.array([self.price(row, prefix)[free] - elsewhere[row] for row in rows])
            kept = {rows[i] for i in linear_sum_assignment(gains)[0]} if free else set()
            chosen = [row for row in rows if row not in kept]
        else:
            extra = {row: elsewhere[row] - self.price(row, self.came[row][:-1]).min() for row in rows}
            chosen = sorted(rows, key=lambda row: extra[row])[:surplus]
        assert len(chosen) == surplus
        return [(elsewhere[row], row) for row in chosen]

    def neighbours(self, row: int, level: int) -> list[Path]:
        home, found = self.came[row], []
        for start in reversed(range(level)):
            prefix, width = home[:start], NEIGHBOURS if start == level - 1 else 1
            while True:
                price = self.price(row, prefix)
                codes = [
                    int(code)
                    for code in np.argsort(price, kind="stable")
                    if self.has_room((*prefix, int(code))) and (*prefix, int(code)) != home[: start + 1]
                ]
                if not codes or len(prefix) == len(self.sizes) - 2:
                    break
                prefix = (*prefix, codes[0])
            found += [(*prefix, code) for code in codes[:width]]
        return found

    def assign(self, spilled: set[int]) -> None:
        for prefix in sorted({path[:-1] for path in self.paths}):
            rows = self.under(prefix)
            everybody = [self.paths[row] for row in rows] + [path for path in self.fixed if path[:-1] == prefix]
            if len(set(everybody)) == len(everybody) and not spilled & set(rows):
                continue
            free = [code for code in range(self.sizes[-1]) if (*prefix, code) not in self.fixed]
            prices = np.array([self.price(row, prefix)[free] for row in rows])
            for row, chosen in zip(rows, linear_sum_assignment(prices)[1], strict=True):
                self.paths[row] = (*prefix, free[chosen])
