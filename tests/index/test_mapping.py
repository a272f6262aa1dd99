"""The uniform semantic mapping against brute force and at its limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from recbole_lcrec.errors import UserError
from recbole_lcrec.index.mapping import Mapping, Occupancy, unique_paths
from recbole_lcrec.quantizer.costs import own_code_costs, residual_costs


def nearest_codes(latents: np.ndarray, books: list[np.ndarray]) -> np.ndarray:
    residual, codes = latents.copy(), []
    for book in books:
        chosen = ((residual[:, None] - book[None]) ** 2).sum(-1).argmin(1)
        codes.append(chosen)
        residual = residual - book[chosen]
    return np.stack(codes, axis=1)


def random_case(seed: int, n_items: int, sizes: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    books = [rng.normal(size=(size, 3)) / (level + 1) for level, size in enumerate(sizes)]
    return rng.normal(size=(n_items, 3)), books


def run(latents: np.ndarray, books: list[np.ndarray]) -> tuple[np.ndarray, Mapping]:
    codes = nearest_codes(latents, books)
    return codes, unique_paths(codes, [len(book) for book in books], residual_costs(latents, books))


def displacement(latents: np.ndarray, books: list[np.ndarray], codes: np.ndarray) -> float:
    total = sum(book[codes[:, level]] for level, book in enumerate(books))
    return float(((latents - total) ** 2).sum())


@pytest.mark.parametrize("seed", range(20))
def test_exact_optimum_within_each_prefix(seed: int) -> None:
    latents, books = random_case(seed, 12, (3, 6))
    codes, mapping = run(latents, books)
    prefixes = mapping.codes[:, :-1]
    for prefix in np.unique(prefixes, axis=0):
        rows = np.flatnonzero((prefixes == prefix).all(axis=1))
        residual = latents[rows] - books[0][prefix[0]]
        price = ((residual[:, None] - books[1][None]) ** 2).sum(-1)
        best = min(
            sum(price[i, code] for i, code in enumerate(option))
            for option in itertools.permutations(range(6), len(rows))
        )
        assert price[np.arange(len(rows)), mapping.codes[rows, 1]].sum() == pytest.approx(best)


def best_displacement(latents: np.ndarray, books: list[np.ndarray]) -> float:
    """Return the least displacement over all assignments of distinct paths, prefixes left free."""
    paths = np.stack(np.meshgrid(*(np.arange(len(book)) for book in books), indexing="ij"), -1).reshape(-1, len(books))
    points = sum(book[paths[:, level]] for level, book in enumerate(books))
    prices = ((latents[:, None] - points[None]) ** 2).sum(-1)
    rows, chosen = linear_sum_assignment(prices)
    return float(prices[rows, chosen].sum())


def test_the_global_optimum_of_the_reference_is_one() -> None:
    latents, books = random_case(0, 6, (2, 3))
    paths = np.array(list(itertools.product(range(2), range(3))))
    best = min(displacement(latents, books, paths[list(order)]) for order in itertools.permutations(range(6)))
    assert best_displacement(latents, books) == pytest.approx(best)


@pytest.mark.parametrize(
    ("sizes", "share", "mean_gap", "worst_gap"),
    # measured; nearest codes level by level are part of the gap, the spill rule the rest
    [((8, 8), 0.3, 1.30, 1.6), ((8, 8), 0.9, 1.42, 1.7), ((8, 8), 1.0, 1.55, 2.0), ((4, 4, 4), 0.9, 1.60, 2.3)],
)
def test_gap_of_the_whole_rule_to_the_global_optimum(
    sizes: tuple[int, ...], share: float, mean_gap: float, worst_gap: float
) -> None:
    gaps = []
    for seed in range(20):
        latents, books = random_case(seed, int(share * np.prod(sizes)), sizes)
        gaps.append(displacement(latents, books, run(latents, books)[1].codes) / best_displacement(latents, books))
    assert min(gaps) >= 1 - 1e-9
    assert np.mean(gaps) < mean_gap and max(gaps) < worst_gap


@pytest.mark.parametrize("seed", range(10))
def test_new_items_get_the_best_free_codes_and_move_nobody(seed: int) -> None:
    latents, books = random_case(seed, 17, (3, 6))
    codes = nearest_codes(latents, books)
    sizes = [len(book) for book in books]
    old = unique_paths(codes[:10], sizes, residual_costs(latents[:10], books)).codes
    new = unique_paths(codes[10:], sizes, residual_costs(latents[10:], books), taken=old).codes
    both = np.concatenate([old, new])
    assert len(np.unique(both, axis=0)) == 17
    for prefix in np.unique(new[:, 0]):
        rows = np.flatnonzero(new[:, 0] == prefix)
        free = np.setdiff1d(np.arange(6), old[old[:, 0] == prefix, 1])
        price = ((latents[10:][rows][:, None] - books[0][prefix] - books[1][None]) ** 2).sum(-1)
        best = min(
            sum(price[i, code] for i, code in enumerate(option)) for option in itertools.permutations(free, len(rows))
        )
        assert price[np.arange(len(rows)), new[rows, 1]].sum() == pytest.approx(best)


def test_new_items_fill_a_catalogue_to_the_last_path() -> None:
    latents, books = random_case(0, 18, (3, 6))
    codes = nearest_codes(latents, books)
    old = unique_paths(codes[:12], (3, 6), residual_costs(latents[:12], books)).codes
    added = unique_paths(codes[12:], (3, 6), residual_costs(latents[12:], books), taken=old)
    assert len(np.unique(np.concatenate([old, added.codes]), axis=0)) == 18
    with pytest.raises(UserError, match="18 paths"):
        unique_paths(codes[:7], (3, 6), residual_costs(latents[:7], books), taken=old)


@pytest.mark.parametrize("sizes", [(4, 4), (2, 3, 4), (2, 2, 2, 2), (16, 1), (1, 16)])
@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_paths_are_distinct_and_in_range(sizes: tuple[int, ...], share: float) -> None:
    n_items = int(share * np.prod(sizes))
    latents, books = random_case(0, n_items, sizes)
    latents[: n_items // 2] = latents[0]  # half of the catalogue is one item over and over
    codes, mapping = run(latents, books)
    assert len(np.unique(mapping.codes, axis=0)) == n_items
    assert (mapping.codes >= 0).all() and (mapping.codes < np.array(sizes)).all()
    assert mapping.moved == (mapping.codes != codes).any(axis=1).sum()


def test_distinct_paths_are_left_alone() -> None:
    latents, books = random_case(1, 200, (16, 16, 16))
    codes, mapping = run(latents, books)
    alone = [row for row in range(200) if (codes[:, :-1] == codes[row, :-1]).all(axis=1).sum() == 1]
    assert len(alone) > 20
    np.testing.assert_array_equal(mapping.codes[alone], codes[alone])


def test_300_equal_items_on_two_levels() -> None:
    latents, books = random_case(2, 1, (256, 256))
    latents = np.repeat(latents, 300, axis=0)
    codes, mapping = run(latents, books)
    assert len(np.unique(mapping.codes, axis=0)) == 300
    assert mapping.spilled == 44
    # the 44 go to the second nearest first code, nowhere else
    order = ((latents[0] - books[0]) ** 2).sum(-1).argsort()
    assert set(mapping.codes[:, 0].tolist()) == set(order[:2].tolist())
    assert (mapping.codes[:, 0] == order[0]).sum() == 256


def test_spill_stays_under_the_longest_ancestor_with_room() -> None:
    latents, books = random_case(3, 1, (4, 3, 2))
    codes, mapping = run(np.repeat(latents, 5, axis=0), books)
    assert len(np.unique(mapping.codes[:, 0])) == 1  # 3 x 2 paths under the first code suffice for five items
    assert len(np.unique(mapping.codes[:, :2], axis=0)) == 3


def test_spilled_items_are_assigned_together_with_those_they_join() -> None:
    latents, books = random_case(4, 30, (4, 10))
    latents[:14] = latents[0]
    _, mapping = run(latents, books)
    assert mapping.spilled >= 4
    again = unique_paths(mapping.codes, (4, 10), residual_costs(latents, books))
    np.testing.assert_array_equal(again.codes, mapping.codes)


def test_deterministic_and_input_untouched() -> None:
    latents, books = random_case(5, 100, (5, 5, 6))
    codes, first = run(latents, books)
    before = codes.copy()
    second = unique_paths(codes, (5, 5, 6), residual_costs(latents, books))
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(codes, before)


def test_more_items_than_paths() -> None:
    latents, books = random_case(6, 10, (3, 3))
    with pytest.raises(UserError, match=r"10 items.*3 x 3.*only 9 paths"):
        run(latents, books)


def test_single_item_and_huge_path_space() -> None:
    codes = np.array([[999] * 8])
    assert unique_paths(codes, (1000,) * 8, own_code_costs(codes, (1000,) * 8)).moved == 0
    equal = np.repeat(codes, 1500, axis=0)
    mapping = unique_paths(equal, (1000,) * 8, own_code_costs(equal, (1000,) * 8))
    assert len(np.unique(mapping.codes, axis=0)) == 1500 and mapping.spilled == 500


def test_without_geometry_the_first_keeps_its_path_and_others_take_the_lowest_free_codes() -> None:
    codes = np.array([[0, 2], [0, 1], [0, 2], [1, 2], [0, 2]])
    mapping = unique_paths(codes, (2, 8), own_code_costs(codes, (2, 8)))
    np.testing.assert_array_equal(mapping.codes[[0, 1, 3]], codes[[0, 1, 3]])
    assert sorted(mapping.codes[[2, 4], 1].tolist()) == [0, 3]
    assert mapping.moved == 2


def test_without_geometry_an_overfull_prefix_keeps_its_first_items() -> None:
    codes = np.array([[0, 1], [0, 1], [0, 0], [0, 1], [0, 1]])
    mapping = unique_paths(codes, (2, 3), own_code_costs(codes, (2, 3)))
    np.testing.assert_array_equal(mapping.codes[[0, 2]], codes[[0, 2]])
    assert len(np.unique(mapping.codes, axis=0)) == 5
    assert mapping.spilled == 2


def test_occupancy_counts_every_ancestor() -> None:
    tree = Occupancy(np.array([[0, 0], [0, 0], [0, 1]]), (2, 2, 2))
    assert not tree.has_room((0, 0)) and tree.has_room((0, 1)) and tree.has_room((0,)) and tree.has_room(())
    flat = own_code_costs(np.zeros((1, 3), dtype=np.int64), (2, 2, 2))
    assert tree.place(0, (0, 0), flat) == (0, 1)
    assert not tree.has_room((0,))
    assert tree.place(0, (0, 0), flat) == (1, 0)
