"""What every test starts from: no command line, fixed seeds, and the working directory it was given."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded: tensors are small, and workers share cores


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide pytest's own arguments, reset the random generators that are loaded, and restore the working directory."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    folder = os.getcwd()
    yield
    os.chdir(folder)
