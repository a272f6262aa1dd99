"""A fixture for tests that register components."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from recbole_lcrec.config import plugins, registry


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Forget what a test registers."""
    tables: tuple[Any, ...] = (registry.MODELS, registry.QUANTIZERS, registry.ENCODERS, registry.CONVERTERS)
    before = [dict(table.components) for table in tables]
    yield
    for table, components in zip(tables, before, strict=True):
        table.components.clear()
        table.components.update(components)
    plugins.load_installed.cache_clear()
    plugins.LOADED.clear()
    for name in [name for name in sys.modules if name.startswith(("_recbole_lcrec_plugin_", "recbole_lcrec_example"))]:
        del sys.modules[name]
