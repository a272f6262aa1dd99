"""Samples that lie in a few long arrays come out as they went in."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_lcrec.instruction.prompts import Sample
from recbole_lcrec.instruction.table import CHUNK, SampleTable


def make(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 7, size=count)
    return [Sample(rng.integers(9, size=n).astype(np.int32), rng.random(n).astype(np.float32)) for n in lengths]


@pytest.mark.parametrize("count", [0, 1, CHUNK, 2 * CHUNK + 5])
def test_samples_come_out_as_they_went_in(count: int) -> None:
    samples = make(count)
    table = SampleTable(iter(samples))
    assert len(table) == count and table.lengths.tolist() == [len(sample.ids) for sample in samples]
    for there, here in zip(table, samples, strict=True):
        np.testing.assert_array_equal(there.ids, here.ids)
        np.testing.assert_array_equal(there.weights, here.weights)
        assert (there.ids.dtype, there.weights.dtype) == (np.int32, np.float32)


def test_samples_are_found_by_number_and_slice_and_cannot_be_changed() -> None:
    samples = make(CHUNK + 3)
    table = SampleTable(samples)
    for number in (0, CHUNK - 1, CHUNK, CHUNK + 2, -1, np.int64(CHUNK + 1)):
        np.testing.assert_array_equal(table[number].ids, samples[number].ids)
    assert [s.ids.tolist() for s in table[CHUNK - 1 :: 2]] == [s.ids.tolist() for s in samples[CHUNK - 1 :: 2]]
    for number in (CHUNK + 3, -CHUNK - 4):
        with pytest.raises(IndexError, match=f"sample {number} of {CHUNK + 3}"):
            table[number]
    with pytest.raises(ValueError, match="read-only"):
        table[5].ids[:] = 0


def test_memory_is_that_of_the_numbers() -> None:
    import tracemalloc

    samples = make(3 * CHUNK)
    numbers = sum(sample.ids.nbytes + sample.weights.nbytes for sample in samples)
    tracemalloc.start()
    table = SampleTable(samples)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < numbers + 18 * len(table) + 20_000  # the numbers, where each row ends, and its samples
