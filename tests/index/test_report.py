"""The quality report: figures against plain counting, words that fit, a page that is whole, safe and repeatable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.errors import UserError
from recbole_lcrec.experiment import run
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.index.report import index_quality, write_report


def index_of(codes: np.ndarray, sizes: tuple[int, ...]) -> ItemIndex:
    return ItemIndex(tuple(f"i{n}" for n in range(len(codes))), codes, sizes)


def grid(n_items: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Return distinct paths, neighbours in order sharing their first codes."""
    chosen = np.linspace(0, np.prod(sizes) - 1, n_items).astype(int)
    return np.stack(np.unravel_index(chosen, sizes), axis=1)


def test_figures_are_what_plain_counting_gives() -> None:
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0]])
    nearest = np.array([[0, 0], [0, 0], [0, 0], [1, 0]])
    embeddings = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    report = index_quality(
        index_of(codes, (2, 4)), titles=["same", "same", "", ""], embeddings=embeddings, nearest_codes=nearest,
        ranks=np.array([0, 1, 2, 0]), build_report={"moved": 2, "spilled": 0, "folder": "x"},
    )  # fmt: skip
    assert report["levels"][1] == {
        "size": 4, "used": 3, "perplexity": 2.83, "largest_share": 0.5, "items_per_code": [2, 1, 1, 0],
    }  # fmt: skip
    assert report["prefixes"][0]["sizes"] == [[1, 1], [3, 1]] and report["prefixes"][1]["items_max"] == 1
    before = report["before_mapping"]
    assert before["collision_rate"] == 0.5 and report["collision_rate_after"] == 0
    assert before["colliding_items"] == 3 and before["group_sizes"] == [[3, 1]]
    assert before["equal_titles"] == 2 == before["equal_embeddings"]  # an empty title is no title
    assert before["largest_groups"][0]["examples"][0] == {"item": "i0", "title": "same"}
    assert report["displacement"]["mean_rank"] == 0.75 and "folder" not in report["build"]
    assert report["neighbours"] is None  # too few items


def test_neighbours_share_codes_beyond_chance_only_where_codes_mean_something() -> None:
    rng = np.random.default_rng(0)
    codes = grid(400, (8, 8, 8))
    embeddings = np.eye(8)[codes[:, 0]] * 3 + np.eye(8)[codes[:, 1]] + 0.05 * rng.normal(size=(400, 8))
    shared = index_quality(index_of(codes, (8, 8, 8)), titles=[""] * 400, embeddings=embeddings)["neighbours"]
    first = shared["shared_codes"][0]
    assert first["share"] > 0.95 and first["chance"] == pytest.approx(1 / 8, abs=0.01)
    assert [one["codes"] for one in shared["shared_codes"]] == [1, 2]
    shuffled = codes[rng.permutation(400)]
    report = index_quality(index_of(shuffled, (8, 8, 8)), titles=[""] * 400, embeddings=embeddings)
    assert report["neighbours"]["shared_codes"][0]["lift"] == pytest.approx(1, abs=0.2)
    assert any("say little about the items" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("duplicates", "the very same embedding"),
        ("collisions", "shared a path before the mapping"),
        ("one code", "level 1: one code holds"),
        ("few codes", "level 2 uses 2 of 16 codes"),
        ("reconstruction", "hardly better than their mean"),
    ],
)
def test_what_is_out_of_the_ordinary_is_said_in_words(change: str, words: str) -> None:
    rng = np.random.default_rng(0)
    codes = grid(400, (16, 16, 16))
    nearest, embeddings = codes.copy(), rng.normal(size=(400, 8)).astype(np.float32)
    embeddings += 9 * rng.normal(size=(16, 8))[codes[:, 0]].astype(np.float32)
    sound = index_quality(index_of(codes, (16,) * 3), titles=["t"] * 400, embeddings=embeddings, nearest_codes=nearest)
    assert sound["warnings"] == []
    build = {}
    if change == "duplicates":
        nearest[:50], embeddings[:50] = nearest[0], embeddings[0]
    elif change == "collisions":
        nearest[::2] = nearest[1::2]
    elif change == "one code":
        nearest[:200, 0] = 3
    elif change == "few codes":
        nearest[:, 1] %= 2
    else:
        build = {"relative_error": 0.95}
    report = index_quality(
        index_of(codes, (16,) * 3), titles=["t"] * 400, embeddings=embeddings, nearest_codes=nearest,
        build_report=build,
    )  # fmt: skip
    assert any(words in warning for warning in report["warnings"]), report["warnings"]


TITLES = ["</script><script>alert(1)</script>", 'say "hi" & <b>bye</b>', "日本 é \u2028", ""]


def test_the_page_is_whole_safe_and_repeatable(tmp_path: Path) -> None:
    index = index_of(grid(4, (4, 4)), (4, 4))
    nearest = np.zeros((4, 2), dtype=np.int64)
    quality = index_quality(index, titles=TITLES, nearest_codes=nearest)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, quality, index, TITLES)
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a" / "report.json").read_text()) == quality
    assert "alert(1)</script>" not in page and "<b>bye" not in page
    data = json.loads(re.search(r'<script type="application/json" id="tree-data">(.*?)</script>', page, re.S)[1])
    assert [row[2] for row in data["rows"]] == TITLES
    # no address is loaded: neither by an element nor by a style
    outside = page.replace(re.search(r"<script>(.*?)</script>", page, re.S)[0], "", 1)  # plotly.js
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|url\(|@import""", outside)


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {**TINY, "data_path": str(write_dataset(folder)), "cache_dir": str(folder / "cache"), **changes}
    return {"stage": "index", "output_dir": str(folder / "index"), **given}


@pytest.mark.parametrize("quantizer", ["rqvae", "cid"])
def test_stage_index_builds_and_stops_and_a_run_takes_it_from_there(tmp_path: Path, quantizer: str) -> None:
    result = run("LCRec", "toy", options(tmp_path, quantizer=quantizer, cid_clusters=4))
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names == {"config.yaml", "result.json", "run.log", "index.json", "quantizer", "report.json", "report.html"}
    assert result["index"]["collision_rate_after"] == 0
    file = tmp_path / "index" / "index.json"
    taken = {"stage": "all", "index_file": str(file), "output_dir": str(tmp_path / "run"), "epochs": 1}
    run("LCRec", "toy", {**options(tmp_path), **taken})
    assert (tmp_path / "run" / "index.json").read_text() == file.read_text()
    assert (tmp_path / "run" / "quantizer" / "quantizer.json").is_file()
    again = options(tmp_path, index_file=str(file), output_dir=str(tmp_path / "again"))
    run("LCRec", "toy", again)  # a report of a ready index
    assert json.loads((tmp_path / "again" / "report.json").read_text())["before_mapping"] is None


def test_stage_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage is indexx"):
        run("LCRec", "toy", options(tmp_path, stage="indexx"))
    with pytest.raises(UserError, match="Pop has no item index"):
        run("Pop", "toy", options(tmp_path))
