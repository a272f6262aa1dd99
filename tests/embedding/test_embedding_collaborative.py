"""Item vectors from training interactions: what they are made of, and that they are made of nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding import EmbeddingSettings, collaborative, embed_items
from recbole_lcrec.embedding.collaborative import cooccurrence, ppmi
from recbole_lcrec.embedding.encoders import joined
from recbole_lcrec.utils.errors import UserError

TEXTS = [f"word{i % 7} thing{i % 3} item{i}" for i in range(40)]


def groups(n_groups: int = 4, n_items: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Return sequences that stay within the items i, i + n_groups, i + 2 n_groups, ..."""
    rng = np.random.default_rng(seed)
    return [rng.choice(np.arange(i % n_groups, n_items, n_groups), size=8) for i in range(60)]


def embed(sequences: Any, cache: Path, n_items: int = 40, **changes: Any) -> np.ndarray:
    values = {
        "text_encoder": "lsa", "lsa_dim": 8, "hf_max_length": 32, "hf_batch_size": 4, "embedding_ids_file": None,
        "embedding": "cf", "cf_dim": 6, "cf_window": 3,
    }  # fmt: skip
    items = [f"i{row}" for row in range(n_items)]
    texts = (TEXTS * n_items)[:n_items]
    settings = restored(EmbeddingSettings, {**values, **changes})
    return embed_items(items, texts, settings, cache_dir=cache, seed=1, sequences=sequences)


def test_neighbours_within_the_window_are_counted() -> None:
    counts = cooccurrence([np.array([0, 1, 2, 0]), np.array([2, 1])], 4, window=2).toarray()
    np.testing.assert_array_equal(counts, [[0, 2, 2, 0], [2, 0, 2, 0], [2, 2, 0, 0], [0, 0, 0, 0]])
    counts = cooccurrence([np.array([0, 1, 2, 0]), np.array([2, 1])], 4, window=1).toarray()
    np.testing.assert_array_equal(counts, [[0, 1, 1, 0], [1, 0, 2, 0], [1, 2, 0, 0], [0, 0, 0, 0]])


def test_a_window_ends_with_the_sequence() -> None:
    apart = cooccurrence([np.array([0, 1]), np.array([2, 3])], 4, window=9).toarray()
    np.testing.assert_array_equal(apart, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


def test_ppmi_against_the_formula() -> None:
    counts = cooccurrence([np.array([0, 1]), np.array([0, 1]), np.array([1, 2]), np.array([2, 3])], 4, window=1)
    dense = counts.toarray()
    p = dense / dense.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.maximum(np.log(p / (p.sum(0) * p.sum(1)[:, None])), 0)
    np.testing.assert_allclose(ppmi(counts).toarray(), np.where(dense > 0, expected, 0))


def test_items_of_a_group_are_near(tmp_path: Path) -> None:
    vectors = embed(groups(), tmp_path)
    assert vectors.dtype == np.float32 and vectors.shape == (40, 6) and np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T
    same = np.equal.outer(np.arange(40) % 4, np.arange(40) % 4)
    assert likeness[same].mean() > 0.5 > 0.1 > abs(likeness[~same].mean())


def test_items_without_neighbours_get_the_mean(tmp_path: Path) -> None:
    vectors = embed([*groups(), np.array([43]), np.array([44, 44])], tmp_path, n_items=50)
    np.testing.assert_allclose(vectors[40:], np.tile(vectors[:40].mean(axis=0), (10, 1)), atol=1e-6)


@pytest.mark.parametrize("sequences", [[], [np.array([], dtype=np.int64)], [np.array([3]), np.array([4, 4])]])
@pytest.mark.parametrize("embedding", ["cf", "text+cf"])
def test_nothing_to_learn_from(sequences: list[np.ndarray], embedding: str, tmp_path: Path) -> None:
    vectors = embed(sequences, tmp_path, embedding=embedding)
    assert len(vectors) == 40 and np.isfinite(vectors).all()


@pytest.mark.parametrize("n_items", [1, 2, 3])
def test_fewer_items_than_dimensions(n_items: int, tmp_path: Path) -> None:
    vectors = embed([np.arange(n_items)] * 3, tmp_path, n_items=n_items)
    assert len(vectors) == n_items and vectors.shape[1] <= max(1, n_items) and np.isfinite(vectors).all()


def test_both_parts_carry_the_same_variance(tmp_path: Path) -> None:
    both = embed(groups(), tmp_path, embedding="text+cf")
    text, cf = embed(None, tmp_path, embedding="text"), embed(groups(), tmp_path)
    assert both.shape == (40, text.shape[1] + cf.shape[1])
    parts = both[:, : text.shape[1]], both[:, text.shape[1] :]
    for part, source in zip(parts, (text, cf), strict=True):
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-6)
        assert (part**2).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
        assert np.corrcoef(part.ravel(), (source - source.mean(axis=0)).ravel())[0, 1] > 0.9999


def test_a_constant_part_stays_zero() -> None:
    both = joined([np.full((5, 2), 0.3, dtype=np.float32), np.arange(5, dtype=np.float32)[:, None]])
    assert (both[:, :2] == 0).all() and both[:, 2].var() == pytest.approx(1)


def test_the_cache_is_keyed_by_the_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed(groups(), tmp_path)
    embed(groups(seed=1), tmp_path)
    embed(groups(), tmp_path, cf_dim=5)
    embed(groups(), tmp_path, cf_window=2)
    flat = np.concatenate(groups())
    embed([flat[:100], flat[100:]], tmp_path)  # the same interactions of other users
    assert len(list((tmp_path / "embeddings").iterdir())) == 5
    monkeypatch.setattr(collaborative, "embed", None)
    np.testing.assert_array_equal(embed(groups(), tmp_path), first)
    np.testing.assert_array_equal(embed(groups(), tmp_path, lsa_dim=3), first)  # an option that does not matter


def test_two_computations_are_equal_and_text_reads_no_sequences(tmp_path: Path) -> None:
    np.testing.assert_array_equal(embed(groups(), tmp_path / "a"), embed(groups(), tmp_path / "b"))
    with_sequences = embed(groups(), tmp_path / "c", embedding="text")
    np.testing.assert_array_equal(with_sequences, embed(None, tmp_path / "d", embedding="text"))


def test_wrong_options(tmp_path: Path) -> None:
    for embedding in ("cf", "text+cf"):
        with pytest.raises(UserError, match="training interactions"):
            embed(None, tmp_path, embedding=embedding)
    for change in ({"embedding": "both"}, {"cf_dim": 0}, {"cf_window": 0}):
        with pytest.raises(UserError, match=next(iter(change))):
            embed(groups(), tmp_path, **change)
