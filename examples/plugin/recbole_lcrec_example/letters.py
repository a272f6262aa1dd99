"""A text encoder: counts of hashed runs of letters, so that spellings of one name are near each other."""

import zlib

import numpy as np

from recbole_lcrec.embedding import Encoder

RUN = 3
"""Letters of a run."""


def embed(task):
    """Return vectors of length 1, float32 [n_items, letters_width]; an item without text has zeros."""
    width = task.settings.own["letters_width"]
    vectors = np.zeros((len(task.texts), width), np.float32)
    for vector, text in zip(vectors, task.texts, strict=True):
        for start in range(len(text) - RUN + 1):
            vector[zlib.crc32(text[start : start + RUN].lower().encode()) % width] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


LETTERS = Encoder("letters (hashed runs of letters)", False, embed, key=lambda task: [task.settings.own])
"""Its vectors are cached under the texts, this file's hash and what ``key`` returns."""
