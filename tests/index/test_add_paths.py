"""New items in a catalogue whose paths stay as they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from mapping_cases import case

from recbole_lcrec.index import ItemIndex
from recbole_lcrec.index.mapping import add_paths, unique_paths
from recbole_lcrec.quantizer.costs import nearest_codes, own_code_costs, residual_costs
from recbole_lcrec.utils.errors import UserError

SIZES = (3, 6)


def catalogue(seed: int, n_items: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    latents, books = case(seed, n_items, SIZES)
    return latents, books, nearest_codes(latents, books)


@pytest.mark.parametrize("seed", range(10))
def test_least_displacement_on_the_free_codes_of_each_prefix(seed: int) -> None:
    latents, books, codes = catalogue(seed, 14)
    old = unique_paths(codes[:8], SIZES, residual_costs(latents[:8], books)).codes
    costs = residual_costs(latents[8:], books)
    added = add_paths(old, codes[8:], SIZES, costs)
    everything = np.concatenate([old, added.codes])
    assert len(np.unique(everything, axis=0)) == 14
    assert added.moved == (added.codes != codes[8:]).any(axis=1).sum()
    for prefix in np.unique(added.codes[:, 0]):
        rows = np.flatnonzero(added.codes[:, 0] == prefix)
        price = costs(rows, added.codes[rows, :1])
        free = [code for code in range(6) if [prefix, code] not in old.tolist()]
        best = min(
            sum(price[i, code] for i, code in enumerate(option)) for option in itertools.permutations(free, len(rows))
        )
        assert price[np.arange(len(rows)), added.codes[rows, 1]].sum() == pytest.approx(best)


def test_free_nearest_paths_are_taken_as_they_are() -> None:
    latents, books, codes = catalogue(0, 18)
    distinct = np.unique(codes, axis=0)
    added = add_paths(distinct[::2], distinct[1::2], SIZES, own_code_costs(distinct[1::2], SIZES))
    np.testing.assert_array_equal(added.codes, distinct[1::2])
    assert added.moved == added.spilled == 0


def test_a_full_prefix_sends_new_items_to_its_neighbours() -> None:
    latents, books = case(1, 1, SIZES)
    home = int(nearest_codes(latents, books)[0, 0])
    old = np.c_[np.full(6, home), np.arange(6)]
    new = np.repeat(latents, 3, axis=0)
    added = add_paths(old, nearest_codes(new, books), SIZES, residual_costs(new, books))
    assert added.spilled == added.moved == 3 and home not in added.codes[:, 0]
    others = [[first, last] for first in range(3) if first != home for last in range(6)]
    prices = sorted(((latents[0] - books[0][first] - books[1][last]) ** 2).sum() for first, last in others)
    reached = ((latents[0] - books[0][added.codes[:, 0]] - books[1][added.codes[:, 1]]) ** 2).sum(axis=1)
    np.testing.assert_allclose(np.sort(reached), prices[:3])


def test_until_every_path_is_taken_and_no_further() -> None:
    latents, books, codes = catalogue(2, 18)
    old = unique_paths(codes[:5], SIZES, residual_costs(latents[:5], books)).codes
    added = add_paths(old, codes[5:], SIZES, residual_costs(latents[5:], books))
    assert len(np.unique(np.concatenate([old, added.codes]), axis=0)) == 18
    everything = np.concatenate([old, added.codes])
    with pytest.raises(UserError, match="19 items need a path each.*only 18"):
        add_paths(everything, codes[:1], SIZES, residual_costs(latents, books))


def test_an_index_grows_by_them() -> None:
    latents, books, codes = catalogue(3, 12)
    index = ItemIndex(tuple("abcdef"), unique_paths(codes[:6], SIZES, residual_costs(latents[:6], books)).codes, SIZES)
    added = add_paths(index.codes, codes[6:], index.level_sizes, residual_costs(latents[6:], books))
    longer = index.extended(tuple("ghijkl"), added.codes)
    assert len(longer) == 12 and [longer.path(item) for item in index.items] == [index.path(item) for item in "abcdef"]


def test_nothing_new_and_wrong_input() -> None:
    old = np.array([[0, 0], [0, 1]])
    assert add_paths(old, old[:0], SIZES, own_code_costs(old[:0], SIZES)).codes.shape == (0, 2)
    with pytest.raises(ValueError, match="existing paths must be distinct"):
        add_paths(old[[0, 0]], old, SIZES, own_code_costs(old, SIZES))
    with pytest.raises(ValueError, match="0 .. size - 1"):
        add_paths(old, old + 6, SIZES, own_code_costs(old, SIZES))
