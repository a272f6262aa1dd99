"""Fixtures of the tests of user texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from usertext_helpers import SEQUENCES, make_shop, options

from recbole_lcrec.data.files import DataFiles
from recbole_lcrec.data.text import ItemText
from recbole_lcrec.usertext import UserTexts, load_user_texts


@pytest.fixture
def shop() -> ItemText:
    return make_shop()


@pytest.fixture
def load(shop: ItemText, tmp_path: Path) -> Callable[..., UserTexts]:
    """Load the users' texts with ``tmp_path`` as the data folder."""

    def load(user_text: str = "auto", **changes: Any) -> UserTexts:
        given: dict[str, Any] = {
            "train_sequences": SEQUENCES,
            "item_text": shop,
            "files": DataFiles(tmp_path, "toy"),
            "max_history": 3,
            "cache_dir": tmp_path / "cache",
            "seed": 1,
            **changes,
        }
        settings = given.pop("settings", options(user_text=user_text))
        return load_user_texts(settings, **given)

    return load
