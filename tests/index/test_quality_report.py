from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.config.settings import restored
from recbole_lcrec.index import ItemIndex, build_index, load_index
from recbole_lcrec.index.mapping import unique_paths
from recbole_lcrec.index.report import index_quality, write_report
from recbole_lcrec.index.report.page import tree_data
from recbole_lcrec.index.report.quality import nearest_neighbours
from recbole_lcrec.quantizer import RQVAE, QuantizerSettings
from recbole_lcrec.quantizer.costs import own_code_costs
from recbole_lcrec.quantizer.kmeans import expected_codes

DATASETS = Path(__file__).resolve().parents[3] / "shared" / "datasets"
NASTY = [
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'single' <b>bold</b>",
    "Amélie 天気 \u2028",
    "",
    "<!--",
    "x",
]


def mapped(before: np.ndarray, sizes: tuple[int, ...]) -> ItemIndex:
    codes = unique_paths(before, sizes, own_code_costs(before, sizes)).codes
    return ItemIndex(tuple(f"i{n}" for n in range(len(codes))), codes, sizes)


# six items; rows 0, 1 and 2 share a path (0 and 1 are equal in every way), so do rows 3 and 4
BEFORE = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [1, 0, 0], [1, 0, 0], [1, 3, 3]])
TITLES = ["saw", "saw", "hammer", "", "", "nail"]
VECTORS = np.array([[1, 0], [1, 0], [0.9, 0], [0, 1], [0, 1.1], [0, 2]], dtype=np.float32)
SIZES = (4, 4, 4)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    errors = {"reconstruction_error": 0.25, "mean_predictor_error": 0.5, "relative_error": 0.5, "seconds": 1.0}
    return index_quality(
        mapped(BEFORE, SIZES),
        titles=TITLES,
        embeddings=VECTORS,
        nearest_codes=BEFORE,
        build_report=errors,
        displacement_ranks=np.array([0, 1, 3, 0, 1, 0]),
    )


def clustered(n: int, n_clusters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings in clusters, with the cluster of each."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(n_clusters, size=n)
    vectors = 4 * rng.normal(size=(n_clusters, 16))[cluster] + rng.normal(size=(n, 16))
    return vectors.astype(np.float32), cluster


def healthy(n: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and codes that follow them, of 3 levels of 64 codes."""
    vectors, cluster = clustered(n, 64)
    rng = np.random.default_rng(1)
    return vectors, np.stack([cluster, rng.integers(64, size=n), rng.integers(64, size=n)], axis=1)


def kinds(quality: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in quality["warnings"]]


def test_use_of_codes(small: dict[str, Any]) -> None:
    first, _, last = small["levels"]
    assert (first["level"], first["letter"], first["size"], first["expected"]) == (1, "a", 4, 2)
    assert first["before"] == first["after"]
    assert first["after"]["items_per_code"] == [3, 3, 0, 0]
    assert first["after"]["used"] == 2 and first["after"]["perplexity"] == 2.0
    assert last["before"]["top_code"] == "<c_2>" and last["before"]["top_share"] == 0.5
    assert sum(last["after"]["items_per_code"]) == 6 and last["after"] != last["before"]


def test_prefixes(small: dict[str, Any]) -> None:
    two, three = small["prefixes"][1:]
    assert two["after"] == {"distinct": 3, "mean": 2.0, "median": 2, "p90": 2, "p99": 2, "max": 3, "alone": 0.166667}
    assert three["before"]["distinct"] == 3 and three["after"]["distinct"] == 6
    assert small["over_full"] == {"room": 4, "prefixes": 0, "share": 0.0, "surplus_items": 0}


def test_over_full_prefixes_and_what_left_them() -> None:
    before = np.array([[0, 0, 0]] * 5 + [[0, 1, 0], [1, 0, 0]])
    quality = index_quality(mapped(before, (2, 2, 2)), titles=[""] * 7, nearest_codes=before)
    assert quality["over_full"] == {"room": 2, "prefixes": 1, "share": 0.333333, "surplus_items": 3}
    mapping = unique_paths(before, (2, 2, 2), own_code_costs(before, (2, 2, 2)))
    assert quality["mapping"]["spilled"] == mapping.spilled >= 3
    assert quality["mapping"]["moved"] == mapping.moved


def test_collisions_and_what_explains_them(small: dict[str, Any]) -> None:
    collisions = small["collisions"]
    assert collisions["rate_before"] == 0.5 and collisions["rate_after"] == 0
    assert collisions["group_sizes"] == [[2, 1], [3, 1]] and (collisions["groups"], collisions["items"]) == (2, 5)
    assert collisions["rate_equal_embeddings"] == 0.166667  # row 1 repeats row 0
    assert collisions["rate_equal_titles"] == 0.166667  # rows without titles are not equal
    assert collisions["groups_equal_embeddings"] == 0 and collisions["groups_equal_titles"] == 0
    largest = collisions["largest"][0]
    assert largest["path"] == "<a_0><b_1><c_2>" and largest["items"] == 3
    assert largest["examples"][2] == {"item": "i2", "title": "hammer"}
    assert small["duplicates"] == {"equal_embeddings": 1, "equal_titles": 1, "empty_titles": 2}


def test_mapping_and_reconstruction(small: dict[str, Any]) -> None:
    assert (small["mapping"]["moved"], small["mapping"]["spilled"]) == (3, 0)
    ranks = {"displaced": 3, "median": 1, "p90": 1, "max": 3, "histogram": [[1, 2], [3, 1]]}
    assert small["mapping"]["ranks"] == ranks
    assert small["reconstruction"]["relative_error"] == 0.5 and "seconds" not in small["reconstruction"]


def test_groups_of_equal_items_are_found_and_negative_zero_is_zero() -> None:
    vectors = np.array([[0.0, 1], [-0.0, 1], [2, 2]], dtype=np.float32)
    before = np.array([[0, 0], [0, 0], [1, 1]])
    quality = index_quality(mapped(before, (2, 2)), titles=["a", "a", "b"], embeddings=vectors, nearest_codes=before)
    group = quality["collisions"]["largest"][0]
    assert group["equal_embeddings"] and group["equal_titles"]
    assert quality["collisions"]["groups_equal_embeddings"] == 1


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import NearestNeighbors

    vectors, _ = clustered(300, 7)
    queries = np.arange(0, 300, 3)
    ours = nearest_neighbours(vectors, queries, 5)
    brute = NearestNeighbors(metric="cosine", algorithm="brute").fit(vectors)
    theirs = brute.kneighbors(vectors[queries], 6, return_distance=False)
    assert [set(row) for row in ours] == [set(row) - {query} for row, query in zip(theirs, queries, strict=True)]


def test_neighbours_of_a_sample_are_found_in_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_lcrec.index.report.quality.QUERIES", 100)
    monkeypatch.setattr("recbole_lcrec.index.report.quality._SIMILARITIES", 5000)  # several chunks
    vectors, codes = healthy()
    near = index_quality(mapped(codes, (64,) * 3), titles=[""] * 1200, embeddings=vectors)["neighbours"]
    assert (near["queries"], near["k"], len(near["prefixes"])) == (100, 10, 2)
    first = near["prefixes"][0]
    assert first["share"] > 0.9
    counts = np.bincount(codes[:, 0])
    assert first["chance"] == pytest.approx((counts * (counts - 1)).sum() / (1200 * 1199), abs=1e-6)
    assert first["lift"] == pytest.approx(first["share"] / first["chance"], rel=1e-3)


def test_random_codes_share_as_much_as_random_pairs_and_are_warned_of() -> None:
    vectors, codes = healthy()
    shuffled = mapped(np.random.default_rng(3).permutation(codes), (64,) * 3)
    quality = index_quality(shuffled, titles=["t"] * 1200, embeddings=vectors)
    assert quality["neighbours"]["prefixes"][0]["lift"] == pytest.approx(1, abs=0.3)
    assert kinds(quality) == ["neighbours"]


def test_a_healthy_index_has_no_warnings() -> None:
    vectors, codes = healthy()
    quality = index_quality(
        mapped(codes, (64,) * 3), titles=["t"] * 1200, embeddings=vectors, nearest_codes=codes,
        build_report={"relative_error": 0.4},
    )  # fmt: skip
    assert quality["warnings"] == []


def spoiled(level: int, values: Any) -> list[dict[str, str]]:
    """Return the warnings of levels when one level of a healthy index is replaced."""
    _, codes = healthy()
    codes[:, level] = values
    quality = index_quality(mapped(codes, (64,) * 3), titles=["t"] * 1200, nearest_codes=codes)
    return [warning for warning in quality["warnings"] if warning["code"].startswith("level")]


def test_bad_use_of_codes_is_warned_of_once_per_level() -> None:
    rng = np.random.default_rng(0)
    few = rng.integers(20, size=1200)
    dominant = np.where(np.arange(1200) < 400, 7, rng.integers(64, size=1200))
    uneven = np.where(np.arange(1200) < 1100, rng.integers(8, size=1200), rng.integers(64, size=1200))
    for level, values, kind in ((0, 5, "one code"), (1, few, "unused codes"), (1, dominant, "one dominant code"),
                                (2, uneven, "uneven use")):  # fmt: skip
        (warning,) = spoiled(level, values)
        assert warning["code"] == f"level {level + 1}: {kind}"
        assert warning["text"].startswith(f"level {level + 1} ")
    assert "level 2 uses 20 of 64 codes: most codes are dead" in spoiled(1, few)[0]["text"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"collisions": {"rate_before": 0.2, "rate_equal_embeddings": 0.05}}, ["collisions"]),
        ({"collisions": {"rate_before": 0.2, "rate_equal_embeddings": 0.15}}, []),
        ({"over_full": {"room": 64, "prefixes": 2, "share": 0.1, "surplus_items": 30}}, ["over-full prefixes"]),
        ({"reconstruction": {"relative_error": 0.9}}, ["reconstruction"]),
        ({"reconstruction": {"relative_error": None}}, []),
        ({"duplicates": {"equal_embeddings": 100, "equal_titles": 0, "empty_titles": 0}}, ["duplicates"]),
        ({"duplicates": {"equal_embeddings": 30, "equal_titles": 0, "empty_titles": 300}}, ["titles"]),
        ({"duplicates": {"equal_embeddings": None, "equal_titles": 0, "empty_titles": 1200}}, []),
        ({"neighbours": {"prefixes": [{"share": 0.0, "chance": 0.0, "lift": None}]}}, ["neighbours"]),
        ({"neighbours": {"prefixes": [{"share": 0.0, "chance": 0.1, "lift": 0.0}]}}, ["neighbours"]),
        ({"neighbours": {"prefixes": [{"share": 0.03, "chance": 0.01, "lift": 3.0}]}}, []),
        ({"neighbours": {"prefixes": [{"share": 1.0, "chance": 1.0, "lift": 1.0}]}}, []),
        ({"mapping": {"ranks": {"displaced": 9, "median": 30}}}, ["displacement"]),
        ({"mapping": {"ranks": {"displaced": 9, "median": 3}}}, []),
    ],
)
def test_thresholds(change: dict[str, Any], expected: list[str]) -> None:
    from recbole_lcrec.index.report.advice import warnings_of

    _, codes = healthy()
    quality = index_quality(mapped(codes, (64,) * 3), titles=["t"] * 1200, nearest_codes=codes)
    assert [warning["code"] for warning in warnings_of({**quality, **change})] == expected


def test_expected_codes_are_those_that_the_quantizer_allows() -> None:
    assert [expected_codes(n, 256) for n in (3, 12, 300, 1024, 50_000)] == [2, 3, 75, 256, 256]
    assert expected_codes(12, 1) == 1


@pytest.mark.parametrize("n_items", [12, 300])
def test_small_catalogues_make_no_noise(n_items: int, tmp_path: Path) -> None:
    vectors, _ = clustered(n_items, max(3, n_items // 10))
    settings = restored(QuantizerSettings, dict(
        num_levels=4, codebook_size=256, latent_dim=8, rqvae_layers=[16], rqvae_beta=0.25, rqvae_loss_weight=1.0,
        rqvae_learning_rate=0.003, rqvae_weight_decay=0.0, rqvae_batch_size=64, rqvae_epochs=40, rqvae_patience=40,
        sinkhorn_epsilon=0.003, sinkhorn_iterations=50,
    ))  # fmt: skip
    built = build_index([f"i{n}" for n in range(n_items)], vectors, settings, cache_dir=tmp_path, seed=1)
    model = RQVAE.load(built.folder)
    before = model.quantize(model.latents_of(vectors)).codes.numpy()
    quality = index_quality(
        built.index, titles=["t"] * n_items, embeddings=vectors, nearest_codes=before, build_report=built.report
    )
    assert quality["mapping"]["moved"] == built.report["moved"]
    assert quality["collisions"]["rate_before"] == pytest.approx(built.report["collision_rate_before"], abs=1e-6)
    assert quality["warnings"] == []


def test_a_level_that_only_tells_items_apart_is_not_judged() -> None:
    before = np.stack([np.arange(600) % 64, np.arange(600) // 64], axis=1)
    before[:40] = before[40:80]
    codes = np.concatenate([before, (np.arange(600) < 40).astype(np.int64)[:, None]], axis=1)
    index = ItemIndex(tuple(map(str, range(600))), codes, (64, 16, 64))
    quality = index_quality(index, titles=["t"] * 600, nearest_codes=before)
    assert quality["levels"][2]["before"] is None and quality["prefixes"][2]["before"] is None
    assert quality["mapping"]["moved"] == 0 and quality["collisions"]["rate_before"] == 0.066667
    assert quality["warnings"] == []


def test_rows_that_do_not_fit_are_refused() -> None:
    index = mapped(BEFORE, SIZES)
    with pytest.raises(AssertionError, match="5 titles for 6 items"):
        index_quality(index, titles=TITLES[:5])
    with pytest.raises(AssertionError, match="nearest codes"):
        index_quality(index, titles=TITLES, nearest_codes=BEFORE[:, :1])


class Page(HTMLParser):
    """Collects a page's text outside scripts, its scripts, its ids, and every address it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")
        for name, value in attrs:
            if name in ("src", "href", "data", "action") and not (value or "").startswith(("#", "data:")):
                self.loads.append((tag, value or ""))
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    folder = tmp_path_factory.mktemp("nasty") / "new"
    before = np.array([[0, 0, 0]] * 3 + [[0, 1, 1]] * 2 + [[1, 0, 0]])
    index = mapped(before, SIZES)
    quality = index_quality(index, titles=NASTY, embeddings=VECTORS, nearest_codes=before)
    write_report(folder, quality, index, NASTY)
    return folder, Page((folder / "report.html").read_text(encoding="utf-8"))


def test_titles_are_text_and_never_markup(nasty: tuple[Path, Page]) -> None:
    page = nasty[1]
    assert NASTY[0] in page.text and NASTY[1] in page.text and "(no title)" in page.text
    assert "b" not in page.tags[page.tags.index("section") :]
    assert not any(script.strip().startswith("alert") for script in page.scripts)
    data = next(script for script in page.scripts if script.startswith('{"letters"'))
    assert "<" not in data and sorted(json.loads(data)["titles"]) == sorted(NASTY)


def test_page_loads_nothing(nasty: tuple[Path, Page]) -> None:
    folder, page = nasty
    assert page.loads == []
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert len(page.scripts) == 2 and len(html) < 200_000
    assert len(set(page.ids)) == len(page.ids)
    assert {"figure-codes-1", "figure-codes-3", "figure-prefixes", "figure-groups", "tree", "tree-search"} <= set(
        page.ids
    )
    links = re.findall(r'href="#([\w-]+)"', html[: html.index("<section")])
    assert links and set(links) <= set(page.ids)


def test_report_json_is_what_was_measured(small: dict[str, Any], tmp_path: Path) -> None:
    index = mapped(BEFORE, SIZES)
    write_report(tmp_path, small, index, TITLES)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == small
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    vectors, codes = healthy()
    for name in ("a", "b"):
        index = mapped(codes, (64,) * 3)
        quality = index_quality(index, titles=["t"] * 1200, embeddings=vectors.copy(), nearest_codes=codes)
        write_report(tmp_path / name, quality, index, ["t"] * 1200)
    for file in ("report.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_page_says_what_is_left_out(tmp_path: Path) -> None:
    index = mapped(BEFORE, SIZES)
    quality = index_quality(index, titles=[""] * 6)
    assert quality["neighbours"] is quality["mapping"] is quality["reconstruction"] is quality["over_full"] is None
    write_report(tmp_path, quality, index, [""] * 6)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    for words in ("Not known here: embeddings", "Left out: the embeddings were not given", "No warnings."):
        assert words in page.text
    assert "figure-neighbours" not in page.ids and "figure-groups" not in page.ids


@pytest.mark.skipif(not DATASETS.is_dir(), reason="the shared data sets are not here")
def test_published_index_of_16859_items(tmp_path: Path) -> None:
    index = load_index(DATASETS / "Games" / "Games.index.json", collisions="resolve")
    quality = index_quality(index, titles=[""] * len(index))
    assert [level["after"]["used"] for level in quality["levels"]] == [208, 256, 256, 256]
    assert [prefix["after"]["distinct"] for prefix in quality["prefixes"]][0::3] == [208, 16859]
    assert quality["warnings"] == []
    write_report(tmp_path, quality, index, [""] * len(index))
    assert (tmp_path / "report.html").stat().st_size < 8_000_000


def test_failed_report_leaves_no_files(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        write_report(tmp_path, small, mapped(BEFORE, SIZES), TITLES[:2])
    assert list(tmp_path.iterdir()) == []


def test_tree_holds_the_items_in_order_of_their_paths() -> None:
    codes = [[1, 0], [0, 2], [0, 1]]
    data = tree_data(ItemIndex(("x", "y", "z"), np.array(codes), (2, 3)), ["X", "", "Z"])
    assert (data["letters"], data["items"], data["titles"]) == (("a", "b"), ["z", "y", "x"], ["Z", "", "X"])
    assert data["codes"] == [0, 1, 0, 2, 1, 0]
