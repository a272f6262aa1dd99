"""Latent semantic analysis: the text encoder that needs no weights, no network and seconds of time."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

MAX_TERMS = 50_000  # the most frequent words and word pairs; what is rarer costs time and joins few items
_POWER_ITERATIONS = 4


def cache_key(dimensions: int, seed: int) -> list[Any]:
    """Return what the embeddings depend on beside the texts."""
    versions = [metadata.version(package) for package in ("scikit-learn", "scipy", "numpy")]
    return [dimensions, seed, MAX_TERMS, _POWER_ITERATIONS, versions]


def embed(texts: Sequence[str], dimensions: int, seed: int) -> np.ndarray:
    """Return TF-IDF of words and word pairs, reduced by a truncated SVD, rows of length 1.

    Args:
        texts: One text per item. One without words gets the mean vector of the others.
        dimensions: Length of the vectors; less when there are fewer items or terms.
        seed: Seed of the randomized SVD.

    Returns:
        float32 [n_items, d].
    """
    terms = _term_weights(texts)
    if terms is None:
        return np.zeros((len(texts), 1), dtype=np.float32)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # the sums of several threads are grouped otherwise
        vectors = _reduce(terms, dimensions, seed)
    lengths = np.linalg.norm(vectors, axis=1)
    present = lengths > 1e-6
    vectors[present] /= lengths[present, None]
    vectors[~present] = vectors[present].mean(axis=0) if present.any() else 0
    return vectors


def _term_weights(texts: Sequence[str]) -> Any:
    """Return the sparse TF-IDF matrix [n_items, n_terms], or None when no text has a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def vectorise(min_df: int) -> Any:
        return TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, 2),
            min_df=min_df,
            max_features=MAX_TERMS,
            token_pattern=r"(?u)\b\w+\b",  # scikit-learn's own drops words of a single character
            dtype=np.float32,
        ).fit_transform(texts)

    # terms of a single item join nothing, but in a small catalogue they are most of what there is
    for min_df in (2, 1) if len(texts) > 100 else (1,):
        try:
            return vectorise(min_df)
        except ValueError:  # scikit-learn's "empty vocabulary"
            continue
    return None


def _reduce(terms: Any, dimensions: int, seed: int) -> np.ndarray:
    """Return U S of the truncated SVD of ``terms``, float32 [n_items, min(dimensions, rank)]."""
    from sklearn.decomposition import TruncatedSVD

    smaller = min(terms.shape)
    if dimensions < smaller:
        svd = TruncatedSVD(dimensions, n_iter=_POWER_ITERATIONS, random_state=seed)
        return np.ascontiguousarray(svd.fit_transform(terms), dtype=np.float32)
    # all of it: the eigenvectors of the smaller Gram matrix are exact and need no random start
    gram = terms @ terms.T if terms.shape[0] == smaller else terms.T @ terms
    values, vectors = np.linalg.eigh(gram.toarray().astype(np.float64))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > 1e-10 * values[0]
    values, vectors = values[kept], vectors[:, kept]
    if terms.shape[0] == smaller:
        return (vectors * np.sqrt(values)).astype(np.float32)
    return (terms @ vectors).astype(np.float32)
