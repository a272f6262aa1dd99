from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding import EmbeddingSettings, embed_items, lsa
from recbole_lcrec.utils.errors import UserError

TEXTS = [
    "red steel bolt M8", "blue steel bolt M6", "steel nut M8", "garden hose green", "garden hose long green",
    "green garden chair", "chess board wood", "chess pieces wood", "wood chess clock", "a", "の本", "",
]  # fmt: skip


def settings(**changes: object) -> EmbeddingSettings:
    values = {
        "text_encoder": "lsa", "lsa_dim": 16, "hf_max_length": 32, "hf_batch_size": 4, "embedding_ids_file": None,
    }  # fmt: skip
    return restored(EmbeddingSettings, {**values, **changes})


def embed(texts: list[str], cache: Path, **changes: object) -> np.ndarray:
    items = [f"i{row}" for row in range(len(texts))]
    return embed_items(items, texts, settings(**changes), cache_dir=cache, seed=1)


def test_like_texts_are_near_and_rows_have_length_one(tmp_path: Path) -> None:
    vectors = embed(TEXTS, tmp_path)
    assert vectors.dtype == np.float32 and len(vectors) == 12
    np.testing.assert_allclose(np.linalg.norm(vectors[:11], axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 3] + 0.1 and likeness[3, 4] > likeness[3, 6] + 0.1


def test_an_item_without_text_gets_the_mean_vector(tmp_path: Path) -> None:
    vectors = embed(TEXTS, tmp_path)
    np.testing.assert_allclose(vectors[11], vectors[:11].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    "texts",
    [
        ["one item"], ["a"], [""], ["", ""], ["same text"] * 150, ["the and of"] * 5, ["x", "y", "é", "本", "Ж"],
        [f"word{i}" for i in range(150)], ["..."] * 3, ["!", "word"],
    ],
)  # fmt: skip
def test_degenerate_catalogues(texts: list[str], tmp_path: Path) -> None:
    vectors = embed(texts, tmp_path)
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(texts) and vectors.shape[1] >= 1
    assert np.isfinite(vectors).all()
    if len(set(texts)) == 1:
        assert len(np.unique(vectors, axis=0)) == 1


@pytest.mark.parametrize("n_items", [20, 60])
def test_all_dimensions_keep_all_likenesses(n_items: int) -> None:
    texts = [" ".join(f"w{(i * k) % 7}" for k in range(1, 9)) for i in range(n_items)]
    _, terms = lsa._fit_terms(texts)
    vectors = lsa.LSA.fit(texts, 1000, 0).embed(texts)
    assert vectors.shape[1] <= min(terms.shape)
    np.testing.assert_allclose(vectors @ vectors.T, (terms @ terms.T).toarray(), atol=3e-3)  # float16 components


def test_few_dimensions_are_the_first_singular_vectors() -> None:
    _, terms = lsa._fit_terms([" ".join(f"w{(i * k) % 37}" for k in range(1, 9)) for i in range(60)])
    components = lsa._right_singular_vectors(terms, 5, 0)
    best = np.linalg.svd(terms.toarray())[2][:5]
    assert np.linalg.norm(components @ best.T, ord="nuc") > 0.95 * 5  # the same subspace


def test_a_saved_encoder_gives_the_same_vectors_also_to_new_texts(tmp_path: Path) -> None:
    encoder = lsa.LSA.fit(TEXTS, 16, 0)
    encoder.save(tmp_path)
    loaded = lsa.LSA.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed(TEXTS), encoder.embed(TEXTS))
    new = loaded.embed(["steel bolt", "wood chess table", "nothing known"])
    likeness = new @ encoder.embed(TEXTS).T
    assert likeness[0, :2].min() > likeness[0, 3:].max() and likeness[1, 6:9].min() > likeness[1, :6].max()
    np.testing.assert_array_equal(new[2], encoder.mean)


def test_two_computations_are_equal(tmp_path: Path) -> None:
    texts = [" ".join(f"w{(i * k) % 91}" for k in range(1, 12)) for i in range(200)]
    np.testing.assert_array_equal(embed(texts, tmp_path / "a"), embed(texts, tmp_path / "b"))


def test_the_cache_is_used_and_keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed(TEXTS, tmp_path)
    assert len(list((tmp_path / "embeddings").iterdir())) == 2  # the encoder and the vectors
    embed(TEXTS, tmp_path, lsa_dim=3)
    embed(TEXTS[::-1], tmp_path)
    assert len(list((tmp_path / "embeddings").iterdir())) == 6
    monkeypatch.setattr(lsa.LSA, "fit", None)
    monkeypatch.setattr(lsa.LSA, "embed", None)
    np.testing.assert_array_equal(embed(TEXTS, tmp_path), first)
    np.testing.assert_array_equal(embed(TEXTS, tmp_path, hf_batch_size=9), first)  # an option that does not matter


@pytest.mark.parametrize("damage", [b"", b"junk", "cut"])
@pytest.mark.parametrize("name", ["lsa.json", "lsa.safetensors"])
def test_a_broken_cache_is_rebuilt(
    tmp_path: Path, name: str, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    first = embed(TEXTS, tmp_path)
    (file,) = (tmp_path / "embeddings").glob(f"*/{name}")
    for vectors in (tmp_path / "embeddings").glob("*/embeddings.npy"):
        vectors.unlink()
    file.write_bytes(damage if isinstance(damage, bytes) else file.read_bytes()[:-50])
    np.testing.assert_array_equal(embed(TEXTS, tmp_path), first)
    assert "made anew" in caplog.text
    np.testing.assert_array_equal(lsa.LSA.load(file.parent).embed(TEXTS), first)


@pytest.mark.parametrize("name", ["bert", "LSA", "hf:", "file:", "lsa:x", "", "hf", "http://x"])
def test_an_unknown_encoder_lists_the_three_forms(name: str) -> None:
    with pytest.raises(UserError, match=r"text_encoder=.*lsa.*hf:<.*file:<"):
        settings(text_encoder=name)


@pytest.mark.parametrize("option", ["lsa_dim", "hf_max_length", "hf_batch_size"])
def test_numbers_out_of_range(option: str) -> None:
    with pytest.raises(UserError, match=option):
        settings(**{option: 0})
