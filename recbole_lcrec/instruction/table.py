"""The samples of an epoch in little memory: a few long arrays instead of two small ones per sample.

A numpy array takes 112 bytes before it holds a number, and a million samples of a large catalogue are two million
arrays of some fifty numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from typing import overload

import numpy as np

from recbole_lcrec.instruction.prompts import Sample

CHUNK = 4096
"""Samples whose arrays are joined: few enough that joining never needs a second copy of the whole epoch."""


class SampleTable(Sequence[Sample]):
    """A sequence of samples; it returns read-only views.

    Args:
        samples: The samples; each is released once it is copied.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._chunks: list[dict[str, np.ndarray]] = []
        self._ends: list[np.ndarray] = []
        counts: list[int] = []
        remaining = iter(samples)
        while chunk := list(islice(remaining, CHUNK)):
            self._ends.append(np.cumsum([len(sample.ids) for sample in chunk]))
            self._chunks.append(_joined(chunk))
            counts += [sample.samples for sample in chunk]
        self.lengths = np.concatenate([np.diff(ends, prepend=0) for ends in self._ends] or [np.zeros(0, np.int64)])
        """Tokens of each row, int64 [n]."""
        self.counts = np.array(counts, np.uint16)
        """Samples of each row, uint16 [n]."""

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, number: int) -> Sample: ...

    @overload
    def __getitem__(self, number: slice) -> list[Sample]: ...

    def __getitem__(self, number: int | slice) -> Sample | list[Sample]:
        """Return a sample, or those of a slice."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        place = int(number) + (len(self) if number < 0 else 0)
        if not 0 <= place < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        chunk, row = divmod(place, CHUNK)
        ends = self._ends[chunk]
        here = slice(int(ends[row - 1]) if row else 0, int(ends[row]))
        arrays = {name: array[here] for name, array in self._chunks[chunk].items()}
        return Sample(**arrays, samples=int(self.counts[place]))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def _joined(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Join each array that any sample has; samples without it get zeros."""
    joined = {}
    for name in (field.name for field in fields(Sample) if field.name != "samples"):
        arrays = [getattr(sample, name) for sample in samples]
        kind = next((array.dtype for array in arrays if array is not None), None)
        if kind is not None:
            blank = [np.zeros(len(s.ids), kind) if a is None else a for s, a in zip(samples, arrays, strict=True)]
            joined[name] = np.concatenate(blank)
            joined[name].flags.writeable = False
    return joined
