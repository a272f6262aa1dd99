from pathlib import Path

import pytest

from recbole_lcrec.config.names import (
    check_dataset,
    check_model,
    dataset_folder,
    described_datasets,
    known_datasets,
    known_models,
    recbole_models,
)
from recbole_lcrec.config.paths import bundled_ml_100k
from recbole_lcrec.config.sources import PAPER_NAMES, recbole_urls, source_of
from recbole_lcrec.utils.errors import UserError


def make_dataset(folder: Path, name: str, suffix: str = "") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{name}{suffix}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")


def test_models_are_ours_then_recboles() -> None:
    models = known_models()
    assert models[0] == "LCRec"
    assert {"SASRec", "Pop", "Random", "KD_DAGFM", "LightGBM", "BPR", "NCEPLRec"} <= set(models)
    assert len(models) == len(set(models)) > 80


def test_every_recbole_model_is_what_recbole_would_import() -> None:
    import recbole.model.general_recommender as general

    assert {name for name in dir(general) if name[0].isupper()} <= set(recbole_models())


def test_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown model sasrec. Did you mean 'SASRec'?"):
        check_model("sasrec")
    with pytest.raises(UserError, match="--help=models lists all of them"):
        check_model("zzzzzzzz")


def test_data_sets_are_found_in_the_data_path(tmp_path: Path) -> None:
    make_dataset(tmp_path, "toys")
    make_dataset(tmp_path, "split", ".train")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.inter").write_text("")
    assert known_datasets(tmp_path) == ["ml-100k", "split", "toys"]
    assert known_datasets(tmp_path / "none") == ["ml-100k"]
    assert described_datasets() == ["Arts", "Games", "Instruments", "ml-100k", "Scientific"]


def test_ml_100k_comes_from_recbole_unless_the_folder_is_there(tmp_path: Path) -> None:
    check_dataset("ml-100k", {"data_path": tmp_path})
    assert dataset_folder("ml-100k", tmp_path) == bundled_ml_100k()
    make_dataset(tmp_path, "ml-100k")
    assert dataset_folder("ml-100k", tmp_path) == tmp_path / "ml-100k"


def test_unknown_data_set_names_files_and_neighbours(tmp_path: Path) -> None:
    make_dataset(tmp_path, "toys")
    with pytest.raises(UserError) as error:
        check_dataset("toy", {"data_path": tmp_path})
    for part in (str(tmp_path / "toy" / "toy.inter"), "Did you mean 'toys'?", "ml-100k, toys"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["Games", "Arts", "Instruments", "Scientific", "amazon-video-games-18", "ml-1m"])
def test_a_data_set_that_can_be_downloaded_passes(tmp_path: Path, name: str) -> None:
    check_dataset(name, {"data_path": tmp_path, "download": True})
    assert list(tmp_path.iterdir()) == []


def test_without_download_the_archive_must_be_there(tmp_path: Path) -> None:
    options = {"data_path": tmp_path, "download": False}
    with pytest.raises(UserError) as error:
        check_dataset("Games", options)
    archive = tmp_path / "Games" / "Amazon_Video_Games.zip"
    for part in ("Games.inter not found", "download is False", str(archive), "convert amazon2018"):
        assert part in str(error.value)
    archive.parent.mkdir()
    archive.write_bytes(b"")
    check_dataset("Games", options)
    with pytest.raises(UserError, match="ml-1m.zip") as error:
        check_dataset("ml-1m", options)
    assert "convert" not in str(error.value)


def test_the_nearest_name_may_be_one_that_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'Instruments'?"):
        check_dataset("instrumets", {"data_path": tmp_path, "download": True})


def test_an_address_makes_any_name_known(tmp_path: Path) -> None:
    for url, archive in (("http://host/a/shop-1.zip?x=1", "shop-1.zip"), ("https://host/download?id=3", "shop.zip")):
        options = {"data_path": tmp_path, "download": True, "dataset_url": url}
        check_dataset("shop", options)
        source = source_of("shop", options)
        assert source is not None and (source.url, source.archive, source.from_amazon) == (url, archive, False)
    for url in ("shop.zip", "file:///shop.zip", "http://", "http://[::1/shop.zip"):
        with pytest.raises(UserError, match="option dataset_url is"):
            check_dataset("shop", {"data_path": tmp_path, "download": True, "dataset_url": url})


def test_the_papers_data_sets_are_archives_of_recbole(tmp_path: Path) -> None:
    assert set(PAPER_NAMES.values()) <= set(recbole_urls()) and "ml-100k" not in recbole_urls()
    assert set(PAPER_NAMES) | {"ml-100k"} == set(described_datasets())
    (tmp_path / "ml-100k").mkdir()
    with pytest.raises(UserError, match="unknown data set ml-100k"):
        check_dataset("ml-100k", {"data_path": tmp_path, "download": True})


def test_a_path_is_no_name(tmp_path: Path) -> None:
    for name in ("../toys", "/toys", ""):
        with pytest.raises(UserError, match="--data_path"):
            check_dataset(name, {"data_path": tmp_path})


def test_benchmark_files_stand_in_for_the_one_file(tmp_path: Path) -> None:
    make_dataset(tmp_path, "toys", ".train")
    options = {"data_path": tmp_path, "benchmark_filename": ["train", "test"]}
    with pytest.raises(UserError, match="toys.test.inter not found"):
        check_dataset("toys", options)
    make_dataset(tmp_path, "toys", ".test")
    check_dataset("toys", options)
