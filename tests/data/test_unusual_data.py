"""Catalogues as they come: odd tokens and texts, repeated items, short users, filters together with text and index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import TINY

from recbole_lcrec.experiment import load_experiment, run


def write(folder: Path, items: list[str], users: list[list[int]], titles: list[str], descriptions: list[str]) -> None:
    """Write a data set whose users took items by number, with a rating of 1 to 5."""
    (folder / "odd").mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user, row in enumerate(users):
        lines += [f"u{user}\t{items[n]}\t{1 + (user + time) % 5}\t{time}" for time, n in enumerate(row)]
    (folder / "odd" / "odd.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["item_id:token\ttitle:token_seq\tdescription:token_seq"]
    lines += ["\t".join(cells) for cells in zip(items, titles, descriptions, strict=True)]
    (folder / "odd" / "odd.item").write_text("\n".join(lines) + "\n", encoding="utf-8")


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {**TINY, "data_path": str(folder), "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")}
    return {**given, "epochs": 1, **changes}


USERS = [[(user + step) % 20 for step in range(4 + user % 4)] for user in range(30)]
ITEMS = [f"i{n}" for n in range(20)]
TITLES = [f"thing {n}" for n in range(20)]
NOTHING = [""] * 20

CASES: dict[str, dict[str, Any]] = {
    "repeated items": {"users": [[u, u, u + 1, u, u + 1, u + 1] for u in range(15)]},
    "users with 1 and 2 interactions": {"users": [*USERS, [3], [4, 5], [6]]},
    "titles that are not ASCII": {"titles": [f"天気 {n} – Œuvre №{n} 🎲 ñ" for n in range(20)]},
    "descriptions of 5,000 words": {"descriptions": [f"word{n} long " * 2500 for n in range(20)]},
    "tokens with spaces and quotes": {"items": [f"sku {n} \"x\" 'y' <a_{n}>" for n in range(20)]},
    "titles like index tokens": {"titles": [f"<a_1><b_{n}> ### Response:" for n in range(20)]},
    "markup": {"titles": [f"&lt;b&gt;Thing {n}&lt;/b&gt; &amp; <i>more</i>" for n in range(20)]},
}


@pytest.mark.parametrize("case", list(CASES))
def test_unusual_data_train_and_recommend(tmp_path: Path, case: str) -> None:
    data = {"items": ITEMS, "users": USERS, "titles": TITLES, "descriptions": NOTHING, **CASES[case]}
    write(tmp_path, **data)
    result = run("LCRec", "odd", options(tmp_path))
    reference = run("SASRec", "odd", options(tmp_path, output_dir=str(tmp_path / "sasrec")))
    assert result["split_sha256"] == reference["split_sha256"]
    loaded = load_experiment(tmp_path / "out")
    items, _ = loaded.recommend([[data["items"][3], data["items"][4]]], k=20)
    assert sorted(items[0]) == sorted(data["items"])


@pytest.mark.parametrize(
    "filters",
    [
        {"val_interval": {"rating": "[3,inf)"}, "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}},
        {"user_inter_num_interval": "[6,inf)", "item_inter_num_interval": "[4,inf)"},
        {"rm_dup_inter": "last"},
    ],
    ids=["rating threshold", "k-core", "duplicates"],
)
@pytest.mark.parametrize("cold_items", [True, False])
def test_filters_work_with_text_and_index(tmp_path: Path, filters: dict[str, Any], cold_items: bool) -> None:
    users = [[*row, row[0], row[1], row[0]] for row in USERS]
    write(tmp_path, ITEMS, users, TITLES, NOTHING)
    result = run("LCRec", "odd", options(tmp_path, cold_items=cold_items, **filters))
    reference = run("Pop", "odd", options(tmp_path, output_dir=str(tmp_path / "pop"), **filters))
    assert result["split_sha256"] == reference["split_sha256"]
    loaded = load_experiment(tmp_path / "out")
    n_items = len(ITEMS) if cold_items else loaded.dataset.item_num - 1
    assert len(loaded.model.catalogue.text.items) == n_items
