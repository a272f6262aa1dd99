"""k-means starts from the points that scikit-learn chooses, in less time."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from recbole_lcrec.quantizer.kmeans import one_thread, plus_plus


@pytest.mark.parametrize(("dimensions", "n_points", "n_codes"), [(16, 900, 64), (2, 300, 40), (3, 20, 20), (1, 50, 2)])
def test_the_points_are_those_of_scikit_learn(dimensions: int, n_points: int, n_codes: int) -> None:
    rng = np.random.default_rng(n_points)
    points = (
        rng.normal(size=(n_points, dimensions))
        + 5 * rng.normal(size=(30, dimensions))[rng.integers(30, size=n_points)]
    )
    points = np.concatenate([points, points[:3]]).astype(np.float32)  # equal ones
    with one_thread():
        for seed in range(3):
            centres, expected = kmeans_plusplus(points, n_codes, random_state=seed)
            chosen = plus_plus(points, n_codes, np.random.RandomState(seed))
            np.testing.assert_array_equal(chosen, expected)
            np.testing.assert_array_equal(points[chosen], centres)
