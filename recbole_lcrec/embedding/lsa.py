"""Latent semantic analysis: the text encoder that needs no weights, no network and seconds of time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.utils.files import write_json

MAX_TERMS = 50_000  # the most frequent words and word pairs; rarer ones cost time and connect few items
_POWER_ITERATIONS = 4
_WEIGHTS, _TERMS = "lsa.safetensors", "lsa.json"


def cache_key(dimensions: int, seed: int) -> list[Any]:
    """Return what the embeddings depend on, apart from the texts."""
    versions = [metadata.version(package) for package in ("scikit-learn", "scipy", "numpy")]
    return [2, dimensions, seed, MAX_TERMS, _POWER_ITERATIONS, versions]


@dataclass(frozen=True)
class LSA:
    """A fitted encoder: it embeds texts it has not seen in the space of those it was fitted to.

    Attributes:
        terms: Words and word pairs, sorted; a term is a column of ``components``.
        idf: float32 [n_terms], inverse document frequencies.
        components: float16 [d, n_terms], right singular vectors: half the size on disk; embeddings are computed with
            what is saved.
        mean: float32 [d], the vector of a text without any known term.
    """

    terms: tuple[str, ...]
    idf: np.ndarray
    components: np.ndarray
    mean: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int, seed: int) -> LSA:
        """Fit TF-IDF of words and word pairs and a truncated SVD.

        Args:
            texts: One text per item.
            dimensions: Length of the vectors; less if there are fewer items or terms.
            seed: Seed of the randomized SVD.
        """
        fitted = _fit_terms(texts)
        if fitted is None:  # no text has a word
            return cls((), np.zeros(0, np.float32), np.zeros((1, 0), np.float16), np.zeros(1, np.float32))
        vectorizer, weights = fitted
        terms = tuple(vectorizer.get_feature_names_out().tolist())
        components = _right_singular_vectors(weights, dimensions, seed).astype(np.float16)
        encoder = cls(terms, vectorizer.idf_.astype(np.float32), components, np.zeros(len(components), np.float32))
        vectors, known = encoder._known(texts)
        mean = vectors[known].mean(axis=0) if known.any() else encoder.mean
        return cls(terms, encoder.idf, components, mean)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors of length 1, float32 [len(texts), d]; a text without known words gets the mean vector."""
        vectors, known = self._known(texts)
        vectors[~known] = self.mean
        return vectors

    def _known(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors, and a mask [n] of texts with at least one known term."""
        if not self.terms:
            return np.zeros((len(texts), 1), np.float32), np.zeros(len(texts), bool)
        vectorizer = _vectorizer(vocabulary={term: column for column, term in enumerate(self.terms)})
        vectorizer.idf_ = self.idf
        vectors = np.ascontiguousarray(vectorizer.transform(texts) @ self.components.T.astype(np.float32))
        lengths = np.linalg.norm(vectors, axis=1)
        known = lengths > 1e-6
        vectors[known] /= lengths[known, None]
        return vectors, known

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and terms (JSON) into an existing folder."""
        from safetensors.numpy import save_file

        arrays = {"idf": self.idf, "components": self.components, "mean": self.mean}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(folder / _WEIGHTS))
        write_json(folder / _TERMS, list(self.terms))

    @classmethod
    def load(cls, folder: Path) -> LSA:
        """Load what ``save`` wrote; the loaded encoder gives the same vectors."""
        from safetensors.numpy import load_file

        arrays = load_file(str(folder / _WEIGHTS))
        terms = json.loads((folder / _TERMS).read_text(encoding="utf-8"))
        encoder = cls(tuple(terms), arrays["idf"], arrays["components"], arrays["mean"])
        shapes = [array.shape for array in (encoder.idf, encoder.components, encoder.mean)]
        if shapes != [(len(terms),), (len(encoder.mean), len(terms)), (len(encoder.mean),)]:
            raise ValueError(f"{len(terms)} terms do not fit arrays of shapes {shapes}")
        return encoder


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",  # scikit-learn's own drops words of a single character
        dtype=np.float32,
        **options,
    )


def _fit_terms(texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Return the fitted vectorizer and the sparse TF-IDF matrix [n, n_terms], or None if no text has a word."""
    # terms of a single item connect nothing, but in a small catalogue they are the majority
    for min_df in (2, 1) if len(texts) > 100 else (1,):
        vectorizer = _vectorizer(min_df=min_df, max_features=MAX_TERMS)
        try:
            return vectorizer, vectorizer.fit_transform(texts)
        except ValueError:  # scikit-learn's "empty vocabulary"
            continue
    return None


def _right_singular_vectors(weights: Any, dimensions: int, seed: int) -> np.ndarray:
    """Return the leading right singular vectors of ``weights`` [n, n_terms], [min(dimensions, rank), n_terms]."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    smaller = min(weights.shape)
    if dimensions < smaller:
        svd = TruncatedSVD(dimensions, n_iter=_POWER_ITERATIONS, random_state=seed)
        with threadpool_limits(limits=1):  # several threads would group the sums differently
            return svd.fit(weights).components_
    # the full rank: the eigenvectors of the smaller Gram matrix are exact and need no random start
    by_item = weights.shape[0] == smaller
    gram = weights @ weights.T if by_item else weights.T @ weights
    values, vectors = np.linalg.eigh(gram.toarray().astype(np.float64))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > 1e-10 * values[0]
    values, vectors = values[kept], vectors[:, kept]
    if by_item:
        return (weights.T.astype(np.float64) @ vectors / np.sqrt(values)).T
    return vectors.T
