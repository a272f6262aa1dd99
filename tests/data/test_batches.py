"""Which rows an epoch has, and which share a batch."""

from __future__ import annotations

import numpy as np

from recbole_lcrec.data.batches import batches_by_length, epoch_rows


def test_every_row_comes_as_often_as_any_other() -> None:
    epochs = [epoch_rows(10, 4, epoch, seed=3).tolist() for epoch in range(5)]
    assert all(len(set(rows)) == 4 for rows in epochs[:2])
    assert sorted(sum(epochs, [])) == sorted(list(range(10)) * 2)
    assert sorted(sum(epochs, [])[:10]) == list(range(10)), "one whole pass after another"
    long = epoch_rows(10, 25, 0, seed=3)
    assert set(np.bincount(long)) == {2, 3}


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    assert epoch_rows(10, 4, 3, seed=1).tolist() == epoch_rows(10, 4, 3, seed=1).tolist()
    assert epoch_rows(100, 100, 0, seed=1).tolist() != epoch_rows(100, 100, 0, seed=2).tolist()
    assert epoch_rows(100, 100, 0, seed=1).tolist() != epoch_rows(100, 100, 1, seed=1).tolist()


def batches(step: int, accumulated: int, *, shuffle: bool = True) -> list[list[int]]:
    lengths = np.random.default_rng(0).integers(1, 21, size=1003)
    rng = np.random.default_rng(5)
    return [batch.tolist() for batch in batches_by_length(lengths, step, accumulated, rng, shuffle=shuffle)]


def test_batches_hold_every_sample_once_and_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 21, size=1003)
    found = batches(16, 1)
    assert sorted(sum(found, [])) == list(range(1003))
    assert [len(batch) for batch in found[:-1]] == [16] * 62 and len(found[-1]) == 11, "the short one stays last"
    assert np.mean([np.ptp(lengths[batch]) for batch in found]) < 3, "random batches span nearly 20"
    means = [lengths[batch].mean() for batch in found]
    assert np.abs(np.diff(means)).mean() > 3, "short and long batches alternate"


def test_accumulated_batches_are_the_large_ones_cut() -> None:
    large, small = batches(16, 1), batches(4, 4)
    assert sum(small, []) == sum(large, [])
    assert [batch for i in range(62) for batch in [sum(small[4 * i : 4 * i + 4], [])]] == large[:62]
    assert sum(batches(16, 1, shuffle=False), []) != sum(large, [])
