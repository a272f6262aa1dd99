"""The uniform semantic mapping against brute force and at its limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recbole_lcrec.index.mapping import Mapping, unique_paths
from recbole_lcrec.quantizer import costs
from recbole_lcrec.quantizer.costs import nearest_codes, own_code_costs, residual_costs
from recbole_lcrec.utils.errors import UserError


def simple_nearest_codes(latents: np.ndarray, books: list[np.ndarray]) -> np.ndarray:
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
    codes = simple_nearest_codes(latents, books)
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
    # the 44 go where they are displaced least among the four nearest first codes besides their own
    order = ((latents[0] - books[0]) ** 2).sum(-1).argsort()
    assert (mapping.codes[:, 0] == order[0]).sum() == 256
    paths = (books[0][order[1:5], None] + books[1]).reshape(-1, 3)
    least = np.sort(((latents[0] - paths) ** 2).sum(-1))[:44].sum()
    left = mapping.codes[mapping.codes[:, 0] != order[0]]
    assert displacement(latents[:44], books, left) == pytest.approx(least)


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


@pytest.mark.parametrize("where", ["latents", "codebook of level 2"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(where: str, value: float) -> None:
    latents, books = random_case(7, 10, (3, 4))
    (latents if where == "latents" else books[1])[3, 0] = value
    for function in (nearest_codes, residual_costs):
        with pytest.raises(UserError, match=rf"{where}: 1 of \d+ rows hold NaN or infinity \(rows 3\)"):
            function(latents, books)


def test_one_item_and_no_item() -> None:
    latents, books = random_case(8, 1, (3, 4))
    codes, mapping = run(latents, books)
    np.testing.assert_array_equal(mapping.codes, codes)
    assert mapping.moved == mapping.spilled == 0
    assert run(latents[:0], books)[1].codes.shape == (0, 2)


def test_codes_outside_their_level() -> None:
    for codes in ([[0, 4]], [[-1, 0]]):
        with pytest.raises(ValueError, match=r"0 .. size - 1.*\(3, 4\)"):
            unique_paths(np.array(codes), (3, 4), own_code_costs(np.array(codes), (3, 4)))


def test_equal_latents_cost_the_same_in_any_batch() -> None:
    latents, books = random_case(9, 1, (16, 256))
    many = np.repeat(latents, 1000, axis=0)
    codes = nearest_codes(many, books)
    assert (codes == nearest_codes(latents, books)).all()
    one = residual_costs(latents, books)(np.array([0]), codes[:1, :1])
    assert (residual_costs(many, books)(np.arange(1000), codes[:, :1]) == one).all()


def test_nearest_codes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    latents, books = random_case(10, 100, (5, 6, 7))
    np.testing.assert_array_equal(nearest_codes(latents, books), simple_nearest_codes(latents, books))
    monkeypatch.setattr(costs, "CELLS", 50)
    np.testing.assert_array_equal(nearest_codes(latents, books), simple_nearest_codes(latents, books))
