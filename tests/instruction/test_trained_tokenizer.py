"""A tokenizer that is taken from the cache is the one that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import DESCRIPTIONS, TITLES

from recbole_lcrec.instruction import tokenizer as module


def train(cache: Path, size: int = 300) -> Any:
    texts = [*TITLES, *DESCRIPTIONS]
    return module.trained_tokenizer(texts, size, ("a frame",), ("red {a}",), cache_dir=cache)


def test_it_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, larger = train(tmp_path), train(tmp_path, 310)
    assert len(larger) == len(first) + 10
    monkeypatch.setattr(module, "train_tokenizer", None)
    again = train(tmp_path)
    for made, name in ((first, "first"), (again, "again")):
        module.add_index_tokens(made, ["<a_0>", "<a_1>"])
        made.save_pretrained(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files and all(
        (tmp_path / "again" / file).read_bytes() == (tmp_path / "first" / file).read_bytes() for file in files
    )
    assert again(TITLES[0] + "<a_1>").input_ids == first(TITLES[0] + "<a_1>").input_ids
    with pytest.raises(TypeError, match="not callable"):
        train(tmp_path, 311)
