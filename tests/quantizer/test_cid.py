"""Properties of collaborative indexing: who is together in training sequences is together in the tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quantizer_helpers import communities, small_settings

from recbole_lcrec.quantizer import Inputs, fit_quantizer
from recbole_lcrec.quantizer.cid import membership, spectral_points


def codes_of(sequences: list[np.ndarray], n_items: int, seed: int = 1, **changes: Any) -> np.ndarray:
    settings = small_settings(**{"quantizer": "cid", "cid_clusters": 10, **changes})
    return fit_quantizer(Inputs(n_items, None, sequences), settings, seed=seed)[0].codes_of(None)


def test_communities_become_the_clusters_of_the_first_level() -> None:
    codes = codes_of(communities(300, 10, per_item=12), 300)
    firsts = [set(codes[np.arange(group, 300, 10), 0].tolist()) for group in range(10)]
    assert all(len(codes_of_group) == 1 for codes_of_group in firsts)
    assert len(set.union(*firsts)) == 10


def test_a_small_cluster_is_cut_no_further_and_numbered_in_catalogue_order() -> None:
    codes = codes_of(communities(60, 10, per_item=20), 60, num_levels=4)
    assert (codes[:, 1:-1] == 0).all()
    for first in range(10):
        np.testing.assert_array_equal(codes[codes[:, 0] == first, -1], np.arange(6))


def test_the_order_within_sequences_and_of_users_does_not_matter() -> None:
    sequences = communities(200, 10, per_item=8)
    shuffled = [np.random.default_rng(i).permutation(s) for i, s in enumerate(sequences)][::-1]
    np.testing.assert_array_equal(codes_of(sequences, 200), codes_of(shuffled, 200))


def test_items_without_neighbours_form_the_last_cluster_in_catalogue_order() -> None:
    sequences = [*communities(100, 4, per_item=20), np.array([103]), np.array([104, 104])]
    codes = codes_of(sequences, 130, cid_clusters=5)
    last = codes[:, 0].max()
    np.testing.assert_array_equal(np.flatnonzero(codes[:, 0] == last), np.arange(100, 130))
    flat = codes[100:, 1] * 16 + codes[100:, 2]
    assert (np.diff(flat) > 0).all()


@pytest.mark.parametrize("sequences", [[], [np.array([], dtype=np.int64)], [np.array([0])]])
@pytest.mark.parametrize("n_items", [1, 5, 64, 300])
def test_no_interactions_at_all(sequences: list[np.ndarray], n_items: int) -> None:
    codes = codes_of(sequences, n_items)
    assert len(np.unique(codes, axis=0)) == n_items


@pytest.mark.parametrize(
    ("n_items", "sizes", "clusters"),
    [(64, [4, 4, 4], 10), (63, [4, 4, 4], 2), (300, [2, 150], 20), (200, [2, 2, 50], 3), (100, [50, 2], 20)],
)
@pytest.mark.parametrize("kind", ["communities", "one crowd", "mostly alone"])
def test_hardly_more_paths_than_items(n_items: int, sizes: list[int], clusters: int, kind: str) -> None:
    sequences = {
        "communities": communities(n_items, 7),
        "one crowd": [np.arange(n_items), np.arange(n_items - 5)],
        "mostly alone": [np.arange(5)],
    }[kind]
    codes = codes_of(sequences, n_items, num_levels=len(sizes), codebook_size=sizes, cid_clusters=clusters)
    assert (codes < sizes).all() and len(np.unique(codes, axis=0)) == n_items


def test_both_eigenvector_methods_span_the_same_space(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_lcrec.quantizer import cid

    users = membership(communities(200, 5, per_item=12), 200)
    dense = spectral_points(users, 5, seed=0)
    monkeypatch.setattr(cid, "_DENSE", 10)
    iterated = spectral_points(users, 5, seed=0)
    np.testing.assert_allclose(dense @ dense.T, iterated @ iterated.T, atol=1e-3)


def test_a_user_counts_once_per_pair() -> None:
    users = membership([np.array([0, 1, 1, 0]), np.array([1, 2])], 4)
    np.testing.assert_array_equal((users.T @ users).toarray()[:3, :3], [[1, 1, 0], [1, 2, 1], [0, 1, 1]])
