"""Fixtures of the decoding tests; models, data and references are in decoding_helpers.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors are faster on one thread, and the machine is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class _DoubleTorch:
    """The torch module with float32 being float64, for transformers' generate, which scores in float32 always."""

    float = float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@pytest.fixture
def generate_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' beam search add up scores in float64."""
    monkeypatch.setattr("transformers.generation.utils.torch", _DoubleTorch())
