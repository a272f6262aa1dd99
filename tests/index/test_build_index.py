from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.config.registry import QUANTIZERS
from recbole_lcrec.index import BuiltIndex, build, build_index, load_index, map_items
from recbole_lcrec.quantizer import RQVAE, Inputs, QuantizerSettings, load_quantizer, quantizer_class
from recbole_lcrec.utils.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "quantizer"))
from quantizer_helpers import clustered, communities, small_settings  # noqa: E402

DATASETS = Path(__file__).resolve().parents[3] / "shared" / "datasets"


def tokens(n_items: int) -> list[str]:
    return [f"item{i}" for i in range(n_items)]


def run(embeddings: np.ndarray, cache: Path, settings: QuantizerSettings | None = None, seed: int = 1) -> BuiltIndex:
    settings = settings or small_settings()
    return build_index(tokens(len(embeddings)), embeddings, settings, cache_dir=cache, seed=seed)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache: Path) -> BuiltIndex:
    return run(clustered(), cache)


def test_every_item_has_its_own_path(built: BuiltIndex) -> None:
    assert built.index.items == tuple(tokens(300))
    assert built.report["collision_rate_after"] == 0 < built.report["collision_rate_before"]
    assert built.report["items"] == 300 and built.report["level_sizes"] == [16, 16, 16]
    assert 0 < built.report["moved"] < 300
    json.dumps(built.report)


def test_the_folder_holds_all_of_it(built: BuiltIndex) -> None:
    names = {path.name for path in built.folder.iterdir()}
    assert names == {"index.json", "report.json", "quantizer.safetensors", "quantizer.json", "manifest.json"}
    assert load_index(built.folder / "index.json", collisions="error", codebook_size=16) == built.index
    index, _ = map_items(tokens(300), clustered(), RQVAE.load(built.folder))
    assert index == built.index


def test_second_build_comes_from_the_cache(built: BuiltIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "fit_quantizer", None)
    again = run(clustered(), cache)
    assert again.index == built.index and again.report == built.report and again.folder == built.folder


def test_another_cache_gives_the_same_index(built: BuiltIndex, tmp_path: Path) -> None:
    assert run(clustered(), tmp_path).index == built.index


def key(items: list[str], inputs: Inputs, settings: QuantizerSettings, seed: int = 1, mapping: str = "optimal") -> str:
    return build._key(items, inputs, settings, seed, "cpu", mapping)


@pytest.mark.parametrize("change", ["embeddings", "items", "settings", "quantizer", "seed", "mapping"])
def test_the_key_is_made_of_everything(built: BuiltIndex, change: str) -> None:
    embeddings, items, settings, seed, mapping = clustered(), tokens(300), small_settings(), 1, "optimal"
    assert key(items, Inputs(300, embeddings), settings) == built.folder.name
    if change == "embeddings":
        embeddings[0, 0] += 1e-6
    elif change == "items":
        items[0] = "other"
    elif change == "settings":
        settings = small_settings(rqvae_epochs=21)
    elif change == "quantizer":
        settings = small_settings(quantizer="rkmeans")
    elif change == "mapping":
        mapping = "digit"
    else:
        seed = 2
    assert key(items, Inputs(300, embeddings), settings, seed, mapping) != built.folder.name


def test_the_key_holds_the_sequences_and_threads_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cid, rkmeans, rqvae = (small_settings(quantizer=kind) for kind in ("cid", "rkmeans", "rqvae"))
    sequences = [np.array([0, 1, 2]), np.array([3])]
    keys = {key(tokens(300), Inputs(300, None, other), cid) for other in (sequences, sequences[::-1], sequences[:1])}
    assert len(keys) == 3
    inputs = Inputs(300, clustered())
    before = key(tokens(300), inputs, rkmeans), key(tokens(300), inputs, rqvae)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert key(tokens(300), inputs, rkmeans) == before[0]
    assert key(tokens(300), inputs, rqvae) != before[1]


@pytest.mark.parametrize("file", ["index.json", "report.json", "quantizer.safetensors", "quantizer.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_broken_cache_is_rebuilt(
    built: BuiltIndex, tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "index" / built.folder.name
    shutil.copytree(built.folder, folder)
    if damage == "cut":
        (folder / file).write_bytes((folder / file).read_bytes()[:20])
    else:
        (folder / file).unlink()
    assert run(clustered(), tmp_path).index == built.index
    assert "made anew" in caplog.text
    assert load_index(folder / "index.json", collisions="error", codebook_size=16) == built.index


@pytest.mark.parametrize("n_items", [1, 2, 12])
def test_fewer_items_than_codes(n_items: int, tmp_path: Path) -> None:
    result = run(clustered(n_items), tmp_path, small_settings(codebook_size=256, num_levels=4, rqvae_epochs=10))
    assert len(result.index) == n_items
    assert result.report["moved"] == 0


def test_300_equal_items_on_two_levels(tmp_path: Path) -> None:
    embeddings = np.repeat(clustered(1), 300, axis=0)
    result = run(embeddings, tmp_path, small_settings(codebook_size=256, num_levels=2, rqvae_epochs=5))
    assert len(np.unique(result.index.codes, axis=0)) == 300


def test_duplicates_among_others_share_a_prefix(tmp_path: Path) -> None:
    embeddings = clustered(100)
    embeddings[1:5] = embeddings[0]
    codes = run(embeddings, tmp_path).index.codes
    assert len(np.unique(codes[:5, :-1], axis=0)) == 1


def test_every_path_used_up(tmp_path: Path) -> None:
    result = run(clustered(64), tmp_path, small_settings(codebook_size=4, num_levels=3))
    assert len(np.unique(result.index.codes, axis=0)) == 64


def test_nan_and_too_many_items_leave_nothing_behind(tmp_path: Path) -> None:
    embeddings = clustered(20)
    with pytest.raises(UserError, match="20 items need a path"):
        run(embeddings, tmp_path, small_settings(codebook_size=2))
    embeddings[7, 3] = np.inf
    with pytest.raises(UserError, match="rows 7"):
        run(embeddings, tmp_path)
    assert not list(tmp_path.rglob("*"))


KINDS = [kind for kind in sorted(QUANTIZERS.names) if not quantizer_class(kind).needs_collaborative]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["clusters", "equal", "one", "full"])
def test_every_quantizer_gives_a_valid_index(kind: str, case: str, tmp_path: Path) -> None:
    embeddings, sizes = {
        "clusters": (clustered(), [16, 16, 16]),
        "equal": (np.repeat(clustered(1), 40, axis=0), [4, 4, 4]),
        "one": (clustered(1), [16, 16, 16]),
        "full": (clustered(64), [4, 4, 4]),
    }[case]
    n = len(embeddings)
    settings = small_settings(quantizer=kind, codebook_size=sizes, rqvae_epochs=5)
    result = build_index(tokens(n), embeddings, settings, cache_dir=tmp_path, seed=1, sequences=communities(n))
    assert len(np.unique(result.index.codes, axis=0)) == n and result.index.level_sizes == tuple(sizes)
    assert result.report["quantizer"] == kind and result.report["mapping"] == "optimal"
    if not quantizer_class(kind).has_geometry:
        assert result.report["moved"] == 0 == result.report["collision_rate_before"]
    loaded, _ = map_items(tokens(n), embeddings, load_quantizer(result.folder))
    assert loaded == result.index
    again = build_index(tokens(n), embeddings, settings, cache_dir=tmp_path, seed=1, sequences=communities(n))
    assert again.index == result.index and again.report == result.report
    json.dumps(result.report, allow_nan=False)


@pytest.mark.parametrize("kind", ["cid", "random"])
def test_what_a_quantizer_does_not_look_at_changes_nothing(kind: str, tmp_path: Path) -> None:
    settings = small_settings(quantizer=kind)
    first = build_index(tokens(300), None, settings, cache_dir=tmp_path, seed=1, sequences=communities())
    second = build_index(tokens(300), clustered(), settings, cache_dir=tmp_path, seed=1, sequences=communities())
    assert first.folder == second.folder and first.index == second.index


def test_missing_inputs_are_said_and_leave_nothing_behind(tmp_path: Path) -> None:
    for kind, message in (("rqvae", "needs embeddings"), ("cid", "training interactions")):
        with pytest.raises(UserError, match=message):
            build_index(tokens(9), None, small_settings(quantizer=kind), cache_dir=tmp_path, seed=1)
    with pytest.raises(UserError, match="20 items need a path"):
        settings = small_settings(quantizer="random", codebook_size=2)
        build_index(tokens(20), None, settings, cache_dir=tmp_path, seed=1)
    assert not list(tmp_path.rglob("*"))


def test_digit_keeps_nearest_codes_and_numbers_what_collides(tmp_path: Path) -> None:
    embeddings = clustered()
    embeddings[10:15] = embeddings[0]
    settings = small_settings(quantizer="rkmeans")
    built = build_index(tokens(300), embeddings, settings, cache_dir=tmp_path, seed=1, mapping="digit")
    codes, nearest = built.index.codes, load_quantizer(built.folder).codes_of(embeddings)
    assert built.index.level_sizes == (16, 16, 16, 16)
    np.testing.assert_array_equal(codes[:, :3], nearest)
    seen: dict[tuple[int, ...], int] = {}
    for row in range(300):
        path = tuple(nearest[row].tolist())
        assert codes[row, 3] == seen.get(path, 0)
        seen[path] = seen.get(path, 0) + 1
    assert (codes[:, 3] > 0).mean() == pytest.approx(built.report["collision_rate_before"])
    assert built.report["moved"] == 0 and built.report["mapping"] == "digit"
    again = build_index(tokens(300), embeddings, settings, cache_dir=tmp_path, seed=1, mapping="digit")
    assert again.index == built.index and again.folder == built.folder


def test_digit_refuses_what_it_cannot_number(tmp_path: Path) -> None:
    equal = np.repeat(clustered(1), 20, axis=0)
    settings = small_settings(quantizer="rkmeans")
    with pytest.raises(UserError, match="20 items share a path.*only 16"):
        build_index(tokens(20), equal, settings, cache_dir=tmp_path, seed=1, mapping="digit")
    with pytest.raises(UserError, match="num_levels.*at most 31, found 32"):
        most = small_settings(num_levels=32)
        build_index(tokens(20), equal, most, cache_dir=tmp_path, seed=1, mapping="digit")
    with pytest.raises(UserError, match="quantizer=random are distinct already"):
        fixed = small_settings(quantizer="random")
        build_index(tokens(20), equal, fixed, cache_dir=tmp_path, seed=1, mapping="digit")
    assert not list(tmp_path.rglob("*"))


def test_scientific_in_a_few_epochs(tmp_path: Path) -> None:
    path = DATASETS / "Scientific" / "Scientific.minilm.npy"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    settings = small_settings(
        num_levels=4, codebook_size=256, latent_dim=32, rqvae_layers=[256], rqvae_epochs=5, rqvae_batch_size=512
    )
    report = run(np.load(path), tmp_path, settings).report
    assert report["collision_rate_before"] < 0.10
    assert min(report["used_codes"]) > 200 and min(report["perplexity"]) > 100
    assert report["relative_error"] < 0.9
