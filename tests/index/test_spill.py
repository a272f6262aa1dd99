"""The rule for over-full prefixes: the same as its plain reference, and near the optimum over all paths."""

from __future__ import annotations

import numpy as np
import pytest
from mapping_cases import case, displacement, least_displacement
from reference_mapping import Reference

from recbole_lcrec.index import spill
from recbole_lcrec.index.mapping import add_paths, unique_paths
from recbole_lcrec.index.spill import Occupancy, group_ids
from recbole_lcrec.quantizer import costs as costs_module
from recbole_lcrec.quantizer.costs import nearest_codes, own_code_costs, residual_costs

SHAPES = [
    ((4, 6), 0.8, 3),
    ((4, 6), 1.0, None),
    ((3, 4, 5), 0.5, 4),
    ((3, 4, 5), 1.0, None),
    ((4, 4, 8), 0.5, 6),
    ((2, 3, 3, 4), 0.7, 3),
    ((2, 3, 3, 4), 1.0, 2),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sizes", "share", "clusters"), SHAPES)
def test_the_same_paths_as_the_reference(
    sizes: tuple[int, ...], share: float, clusters: int | None, seed: int
) -> None:
    latents, books = case(seed, int(share * np.prod(sizes)), sizes, clusters)
    latents[::5] = latents[0]  # equal items, whose order must not depend on anything but their rows
    codes, costs = nearest_codes(latents, books), residual_costs(latents, books)
    mapping = unique_paths(codes, sizes, costs)
    assert mapping.spilled or sizes == (4, 6)
    np.testing.assert_array_equal(mapping.codes, Reference(codes[:0], codes, sizes, costs).run())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sizes", "share", "clusters"), SHAPES)
def test_new_items_too(sizes: tuple[int, ...], share: float, clusters: int | None, seed: int) -> None:
    latents, books = case(seed, int(share * np.prod(sizes)), sizes, clusters)
    codes, n_old = nearest_codes(latents, books), len(latents) // 2
    old = unique_paths(codes[:n_old], sizes, residual_costs(latents[:n_old], books)).codes
    costs = residual_costs(latents[n_old:], books)
    np.testing.assert_array_equal(
        add_paths(old, codes[n_old:], sizes, costs).codes, Reference(old, codes[n_old:], sizes, costs).run()
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_do_not_change_the_result(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, books = case(1, 100, (4, 4, 8), 4)
    codes, costs = nearest_codes(latents, books), residual_costs(latents, books)
    whole = unique_paths(codes, (4, 4, 8), costs)
    monkeypatch.setattr(costs_module, "CELLS", 8 * 16 * batch)
    np.testing.assert_array_equal(unique_paths(codes, (4, 4, 8), costs).codes, whole.codes)


@pytest.mark.parametrize("seed", range(5))
def test_crowds_are_thinned_without_loss(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, books = case(seed, 90, (12, 8))
    books[0][1:] += 30  # everything is nearest to the first code
    codes, costs = nearest_codes(latents, books), residual_costs(latents, books)
    whole = unique_paths(codes, (12, 8), costs)
    monkeypatch.setattr(spill, "_MANY", 8)
    monkeypatch.setattr(costs_module, "CELLS", 12 * 16)
    thinned = unique_paths(codes, (12, 8), costs)
    assert displacement(latents, books, thinned.codes) == pytest.approx(displacement(latents, books, whole.codes))
    assert thinned.spilled == whole.spilled == 82


# sizes, share of the paths in use, clusters: bounds of the mean and the largest ratio to the global optimum
GAPS = [
    ((4, 6), 0.5, None, 1.05, 1.5),
    ((4, 6), 0.8, 3, 1.15, 1.7),
    ((4, 6), 1.0, None, 1.25, 1.5),
    ((8, 8), 0.6, 5, 1.1, 1.4),
    ((3, 4, 5), 0.5, 4, 1.15, 1.4),
    ((3, 4, 5), 0.9, None, 1.35, 1.7),
    ((4, 4, 8), 0.5, 6, 1.45, 3.0),
    ((4, 4, 8), 0.9, None, 1.5, 2.0),
]


@pytest.mark.parametrize(("sizes", "share", "clusters", "mean", "most"), GAPS)
def test_gap_to_the_optimum_over_all_paths(
    sizes: tuple[int, ...], share: float, clusters: int | None, mean: float, most: float
) -> None:
    ratios = []
    for seed in range(12):
        latents, books = case(seed, int(share * np.prod(sizes)), sizes, clusters)
        codes = nearest_codes(latents, books)
        mapped = unique_paths(codes, sizes, residual_costs(latents, books)).codes
        best, best_spill = least_displacement(latents, books, codes)
        reached = displacement(latents, books, mapped)
        assert best <= best_spill * (1 + 1e-9) and best_spill <= reached * (1 + 1e-9)
        ratios.append(reached / best)
    assert np.mean(ratios) <= mean and np.max(ratios) <= most


def test_the_item_that_loses_least_leaves() -> None:
    # two codes, three items at 0: the one on the side of the other prefix goes there
    books = [np.array([[0.0], [10.0]]), np.array([[-1.0], [1.0]])]
    latents = np.array([[4.0], [-4.0], [-3.0]])
    codes = nearest_codes(latents, books)
    assert (codes[:, 0] == 0).all()
    mapping = unique_paths(codes, (2, 2), residual_costs(latents, books))
    np.testing.assert_array_equal(mapping.codes[0], [1, 0])
    assert mapping.spilled == 1


def test_no_room_under_the_same_ancestor() -> None:
    # nine equal items on 2 x 2 x 4 paths: eight fill the first code's subtree, one must change its first code
    latents, books = case(3, 9, (2, 2, 4))
    latents[:] = latents[0]
    mapping = unique_paths(nearest_codes(latents, books), (2, 2, 4), residual_costs(latents, books))
    counts = np.unique(mapping.codes[:, 0], return_counts=True)[1]
    assert counts.min() >= 1 and counts.max() <= 8 and len(np.unique(mapping.codes, axis=0)) == 9


def test_occupancy_counts_paths_below() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    tree = Occupancy(codes, (2, 2, 2))
    assert not tree.has_room((0, 0)) and tree.has_room((0, 1)) and tree.has_room((1, 0))
    tree.take([0, 1, 1])
    assert not tree.has_room((0, 1)) and not tree.has_room((0,))
    np.testing.assert_array_equal(tree.roomy(np.array([[0], [1]])), [[False, False], [True, True]])
    tree.leave(np.array([0]), 0)
    codes[0] = -1
    assert tree.has_room((0, 0)) and tree.used((0, 0)).tolist() == [0, 1]


def test_group_numbers_ascend_with_the_rows_whatever_the_sizes() -> None:
    keys = np.random.default_rng(0).integers(3, size=(50, 5))
    small, huge = group_ids(keys, (3,) * 5), group_ids(keys, (60_000,) * 5)  # the second exceeds 64 bits
    np.testing.assert_array_equal(small, huge)
    np.testing.assert_array_equal(small, np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1))


def test_without_geometry_prefixes_run_over_into_the_lowest_free_codes() -> None:
    codes = np.zeros((5, 3), dtype=np.int64)
    mapping = unique_paths(codes, (2, 2, 2), own_code_costs(codes, (2, 2, 2)))
    np.testing.assert_array_equal(mapping.codes[0], [0, 0, 0])
    assert len(np.unique(mapping.codes, axis=0)) == 5 and mapping.moved == 4
