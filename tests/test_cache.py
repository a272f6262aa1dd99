"""The cache: entries are added whole, never replaced, made anew when they have changed, and may vanish at any time."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recbole_lcrec.utils.cache import cached
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import StorageError


def keep(entry: Path, build: Callable[[], str] = lambda: "made") -> tuple[str, bool]:
    return cached(entry, load=load, build=build, save=save, what="words")


def load(entry: Path) -> str:
    return str(json.loads((entry / "words.json").read_text())["words"])


def save(words: str, entry: Path) -> None:
    (entry / "words.json").write_text(json.dumps({"words": words}))
    save_file({"weights": np.zeros(3)}, entry / "weights.safetensors")


def never() -> str:
    raise AssertionError("the entry is there")


def test_a_result_is_made_once(tmp_path: Path) -> None:
    entry = tmp_path / "words" / "key"
    assert keep(entry) == ("made", False)
    assert keep(entry, never) == ("made", True)
    assert [path.name for path in entry.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("name", ["words.json", "weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_entry_is_made_anew_with_a_warning(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = tmp_path / "key"
    keep(entry)
    content = (entry / name).read_bytes()
    if damage == "gone":
        (entry / name).unlink()
    else:
        (entry / name).write_bytes(content[:-9] + (b"123456789" if damage == "changed" else b""))
    assert keep(entry, lambda: "anew") == ("anew", False)
    assert f"{entry} is damaged ({name} " in caplog.text and "the words are made anew" in caplog.text
    assert keep(entry, never) == ("anew", True)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_an_entry_that_does_not_load_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path / "key")

    def other_shape(entry: Path) -> str:
        raise ValueError("found 3 words, expected 4")

    cached(tmp_path / "key", load=other_shape, build=lambda: "four", save=save, what="words")
    assert "damaged (found 3 words, expected 4)" in caplog.text
    assert keep(tmp_path / "key", never) == ("four", True)


@pytest.mark.parametrize("what", ["a file", "words.json"])
def test_what_another_version_left_in_an_entrys_place_goes(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = tmp_path / "key"
    if what == "a file":
        entry.write_text("old")
    else:
        keep(entry)
        (entry / "manifest.json").write_text("{}")
    assert keep(entry, lambda: "anew") == ("anew", False)
    assert f"{entry} is damaged ({what if what == 'a file' else 'manifest.json does not name'}" in caplog.text
    assert keep(entry, never) == ("anew", True)


def test_a_file_in_the_caches_place_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot be made \(.*\)\. Set cache_dir"):
        keep(tmp_path / "cache" / "key", never)
    assert (tmp_path / "cache").read_text() == "mine"


def test_of_many_that_make_an_entry_at_once_all_get_the_first_one(tmp_path: Path) -> None:
    entry, results = tmp_path / "key", []
    together = threading.Barrier(8)

    def make(number: int) -> None:
        def build() -> str:
            together.wait()
            return f"by {number}"

        results.append(keep(entry, build)[0])

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {load(entry)} and len(results) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["key"], "nothing else is left"


@pytest.mark.parametrize("moment", ["build", "save", "saved"])
def test_the_cache_is_deleted_while_an_entry_is_made(
    tmp_path: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = tmp_path / "cache" / "words" / "key"

    def delete(now: str) -> None:
        if now == moment:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    def build() -> str:
        delete("build")
        return "made"

    def save_while_deleted(words: str, folder: Path) -> None:
        delete("save")
        save(words, folder)
        delete("saved")

    result = cached(entry, load=load, build=build, save=save_while_deleted, what="words")
    assert result == ("made", False)
    assert ("they are not kept" in caplog.text) == (moment != "build") == (not entry.exists())


def test_the_cache_is_deleted_while_an_entry_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = tmp_path / "key"
    keep(entry)

    def load_while_deleted(folder: Path) -> str:
        shutil.rmtree(entry)
        return load(folder)

    with caplog.at_level(logging.WARNING):
        result = cached(entry, load=load_while_deleted, build=lambda: "made", save=save, what="words")
    assert result == ("made", False) and not caplog.text, "nothing is wrong with a cache that is gone"


def test_what_killed_processes_were_writing_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".old.1", 90_000), (".young.2", 60)):
        (tmp_path / name).mkdir()
        before = os.stat(tmp_path).st_mtime - age
        os.utime(tmp_path / name, (before, before))
    keep(tmp_path / "key")
    assert {path.name for path in tmp_path.iterdir()} == {"key", ".young.2"}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        keep(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o777 & ~umask
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "key").iterdir()}
    assert modes == {0o666 & ~umask}, "safetensors makes its files private"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cache_dir"):
        keep(tmp_path / "key")


def test_a_failed_build_removes_only_folders_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()  # the user's own

    def failing() -> int:
        raise UserError("no result")

    for folder in ("empty", "new/cache"):
        with pytest.raises(UserError, match="no result"):
            cached(tmp_path / folder / "kind" / "key", load=len, build=failing, save=lambda *_: None, what="things")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
