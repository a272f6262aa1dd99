"""Data sets by name: downloaded, resumed, unpacked and checked, or refused with nothing half-written."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_server import PREFIX, Server, atomic_files, serving, zipped
from fakes import TINY

from recbole_lcrec.cli.main import main
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.names import known_datasets
from recbole_lcrec.data import archive as archive_module
from recbole_lcrec.data import download as download_module
from recbole_lcrec.data import fetch as fetch_module
from recbole_lcrec.data.fetch import fetch_dataset
from recbole_lcrec.experiment import run
from recbole_lcrec.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FILES = atomic_files()
FETCHED = {"Games.inter", "Games.item", "Games.source.json"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "RETRIES", download_module.RETRIES.new(backoff_factor=0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(zipped(FILES)) as running:
        yield running


def options(tmp_path: Path, url: str | None, name: str = "Games", **changes: Any) -> dict[str, Any]:
    return {
        "dataset": name,
        "data_path": str(tmp_path / "data" / name),
        "benchmark_filename": None,
        "dataset_url": url,
        "download": True,
        "show_progress": False,
        **changes,
    }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refused(tmp_path: Path, url: str | None, **changes: Any) -> str:
    """Return the message, after checking that nothing passes for a data set."""
    with pytest.raises(UserError) as error:
        fetch_dataset(options(tmp_path, url, **changes))
    assert known_datasets(tmp_path / "data") == ["ml-100k"]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_data_set_is_downloaded_filtered_and_run(tmp_path: Path, server: Server) -> None:
    given = {**TINY, "data_path": str(tmp_path / "data"), "dataset_url": server.url, "output_dir": str(tmp_path / "o")}
    result = run("Pop", "Games", given)
    folder = tmp_path / "data" / "Games"
    assert names(folder) == FETCHED
    for suffix in ("inter", "item"):
        assert (folder / f"Games.{suffix}").read_text() == FILES[f"{PREFIX}.{suffix}"]
    assert json.loads((folder / "Games.source.json").read_text()) == {
        "archive": f"{PREFIX}.zip",
        "bytes": len(server.content),
        "sha256": hashlib.sha256(server.content).hexdigest(),
        "url": server.url,
    }
    log = (tmp_path / "o" / "run.log").read_text()
    assert "Games: 30 users, 12 items, " in log
    again = run("Pop", "Games", {**given, "download": False})
    assert again["split_sha256"] == result["split_sha256"] and len(server.requests) == 1


def test_the_filters_change_nothing_on_filtered_data(tmp_path: Path, server: Server) -> None:
    given = {**TINY, "data_path": str(tmp_path / "data"), "dataset_url": server.url, "output_dir": str(tmp_path / "o")}
    filtered = run("Pop", "Games", given)
    path = tmp_path / "data" / "Games" / "Games.inter"
    keep = [line for line in path.read_text().splitlines() if "few" not in line and "rare" not in line]
    path.write_text("\n".join(line for line in keep if not line.endswith("1500000099")) + "\n")
    loose = {"user_inter_num_interval": None, "item_inter_num_interval": None, "rm_dup_inter": None}
    assert run("Pop", "Games", {**given, **loose})["split_sha256"] == filtered["split_sha256"]
    assert run("Pop", "Games", given)["split_sha256"] == filtered["split_sha256"]


def test_lcrec_reads_the_text_of_recboles_archives(tmp_path: Path, server: Server) -> None:
    given = {**TINY, "data_path": str(tmp_path / "data"), "dataset_url": server.url, "epochs": 1, "eval_step": 0}
    run("LCRec", "Games", {**given, "output_dir": str(tmp_path / "o"), "cache_dir": str(tmp_path / "cache")})
    log = (tmp_path / "o" / "run.log").read_text()
    assert "Text fields used: title, brand, categories (not in Games.item: description)" in log
    assert "Catalogue: 12 items, 0 without any text." in log, "without the items that the filters removed"


def test_names_of_recbole_are_downloaded_too(tmp_path: Path, server: Server) -> None:
    name = "amazon-video-games-18"
    fetch_dataset(options(tmp_path, server.url, name))
    assert names(tmp_path / "data" / name) == {f"{name}.inter", f"{name}.item", f"{name}.source.json"}


def test_the_progress_bar_can_be_silenced(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a log file gets no bar of so short a loop
    fetch_dataset(options(tmp_path, server.url))
    assert capsys.readouterr().err == ""
    fetch_dataset(options(tmp_path / "shown", server.url, show_progress=True))
    assert f"{PREFIX}.zip" in capsys.readouterr().err


def test_a_cut_connection_is_resumed_within_a_call(tmp_path: Path, server: Server) -> None:
    server.cuts = [1000, 500]
    fetch_dataset(options(tmp_path, server.url))
    assert server.ranges_asked() == [None, "bytes=1000-", "bytes=1500-"]
    assert [request.get("If-Range") for request in server.requests] == [None, '"one"', '"one"']
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_cut_connection_is_resumed_by_the_next_call(tmp_path: Path, server: Server) -> None:
    server.cuts = [1000, 0, 0, 0, 0]
    message = refused(tmp_path, server.url)
    assert "after 5 attempts, the connection ended after 1000 of" in message and "run again to go on" in message
    assert names(tmp_path / "data" / "Games") == {f"{PREFIX}.zip.part", f"{PREFIX}.zip.part.json"}
    server.requests.clear()
    fetch_dataset(options(tmp_path, server.url))
    assert server.ranges_asked() == ["bytes=1000-"]
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.statuses = [503, 429]
    fetch_dataset(options(tmp_path, server.url))
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("headers", "ranges", "asked"),
    [
        ({"ETag": '"one"'}, False, [None, "bytes=1000-"]),  # does not know Range: sends all, which is taken
        ({}, True, [None, None]),  # cannot tell versions apart: not asked for a part
        ({"ETag": 'W/"one"'}, True, [None, None]),  # likewise
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, True, [None, "bytes=1000-"]),
    ],
)
def test_servers_that_cannot_resume_send_all_again(
    tmp_path: Path, server: Server, headers: dict[str, str], ranges: bool, asked: list[str | None]
) -> None:
    server.headers, server.ranges, server.cuts = headers, ranges, [1000]
    fetch_dataset(options(tmp_path, server.url))
    assert server.ranges_asked() == asked
    assert names(tmp_path / "data" / "Games") == FETCHED


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("users", [10, 60])
def test_a_file_that_changed_is_downloaded_from_the_start(
    tmp_path: Path, server: Server, users: int, heeds_if_range: bool
) -> None:
    server.cuts = [3000, 0, 0, 0, 0]
    refused(tmp_path, server.url)
    files = atomic_files(users=users)
    server.content, server.headers, server.heeds_if_range = zipped(files), {"ETag": '"two"'}, heeds_if_range
    fetch_dataset(options(tmp_path, server.url))
    assert (tmp_path / "data" / "Games" / "Games.inter").read_text() == files[f"{PREFIX}.inter"]


def test_another_address_starts_from_zero(tmp_path: Path, server: Server) -> None:
    server.cuts = [1000, 0, 0, 0, 0]
    refused(tmp_path, server.url)
    server.requests.clear()
    fetch_dataset(options(tmp_path, server.url + "?mirror"))
    assert server.ranges_asked() == [None]


def test_without_a_length_the_zip_tells_whether_it_is_whole(tmp_path: Path, server: Server) -> None:
    server.says_length, server.cuts = False, [1000]
    assert "cannot be unpacked" in refused(tmp_path, server.url)
    fetch_dataset(options(tmp_path, server.url))
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_process_killed_after_the_download_only_unpacks(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset(options(tmp_path, server.url))
    folder = tmp_path / "data" / "Games"
    (folder / ".unpacking").mkdir()  # what a harder kill would leave
    (folder / ".unpacking" / "Games.inter").write_text("half")
    (folder / ".download.lock").write_text("")
    assert known_datasets(tmp_path / "data") == ["ml-100k"]
    fetch_dataset(options(tmp_path, server.url))
    assert names(folder) == FETCHED and len(server.requests) == 1


def test_an_interruption_between_two_files_is_mended(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    replace = os.replace

    def stop_at_inter(source: Any, target: Any) -> None:
        if str(target).endswith("Games.inter") and not moved:
            moved.append(str(target))
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop_at_inter)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset(options(tmp_path, server.url))
    assert known_datasets(tmp_path / "data") == ["ml-100k"], "interactions come last"
    fetch_dataset(options(tmp_path, server.url))
    assert names(tmp_path / "data" / "Games") == FETCHED


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(tmp_path: Path, server: Server, status: int) -> None:
    server.statuses = [status]
    message = refused(tmp_path, server.url)
    assert f"the server answers {status}" in message and server.url in message
    assert not (tmp_path / "data").exists() and len(server.requests) == 1


def damaged(content: bytes) -> bytes:
    middle = content.index(b"Video Games PC")
    return content[:middle] + b"x" + content[middle + 1 :]


BAD = {
    "no zip": (b"<html>please log in</html>", "cannot be unpacked: File is not a zip file"),
    "checksum": (damaged(zipped(FILES)), "cannot be unpacked: Bad CRC-32"),
    "way out": (zipped({**FILES, "../../evil.inter": "x"}), "its member '../../evil.inter' points outside it"),
    "absolute": (zipped({**FILES, "/tmp/evil.inter": "x"}), "points outside it"),
    "drive": (zipped({**FILES, "C:\\evil.inter": "x"}), "points outside it"),
    "no interactions": (zipped({f"{PREFIX}.item": "item_id:token\n"}), f"found {PREFIX}.item"),
    "empty": (zipped({}), "found nothing"),
    "two of a name": (zipped({**FILES, f"old/{PREFIX}.inter": "x"}), f"it holds two files named {PREFIX}.inter"),
    "several": (zipped({"a.inter": "x", "b.inter": "x"}), "found a.inter, b.inter"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_refused_and_removed(tmp_path: Path, server: Server, kind: str) -> None:
    server.content, expected = BAD[kind]
    message = refused(tmp_path, server.url)
    assert expected in message and "was removed" in message and str(tmp_path / "data" / "Games") in message
    assert list(tmp_path.rglob("*")) == [], "nothing is left anywhere"


def test_an_archive_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_MOST_BYTES", 1 << 20)
    server.content = zipped({**FILES, f"{PREFIX}.user": "0" * (4 << 20)}, zipfile.ZIP_DEFLATED)
    assert "not a table of interactions" in refused(tmp_path, server.url)


def test_a_full_disk_is_told_before_it_is_full(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    assert "no room for" in refused(tmp_path, server.url)


def test_other_members_stay_in_the_archive(tmp_path: Path, server: Server) -> None:
    folders = {f"{PREFIX}/{name}": content for name, content in FILES.items()}
    server.content = zipped({**folders, f"__MACOSX/._{PREFIX}.inter": "x", "README.txt": "x", f"{PREFIX}.user": "u"})
    fetch_dataset(options(tmp_path, server.url))
    assert names(tmp_path / "data" / "Games") == FETCHED | {"Games.user"}


def test_an_archive_that_holds_a_split_asks_for_its_parts(tmp_path: Path, server: Server) -> None:
    server.content = zipped({f"shop.{part}.inter": "user_id:token\n" for part in ("train", "test")})
    with pytest.raises(UserError, match=r"Games\.inter expected.*holds Games\.test\.inter, Games\.train\.inter"):
        fetch_dataset(options(tmp_path, server.url))
    fetch_dataset(options(tmp_path / "parts", server.url, benchmark_filename=["train", "test"]))


def test_files_of_another_origin_are_not_overwritten(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "data" / "Games"
    folder.mkdir(parents=True)
    (folder / "Games.item").write_text("mine")
    assert "Games.item is not the file of that name" in refused(tmp_path, server.url)
    assert (folder / "Games.item").read_text() == "mine"
    (folder / "Games.item").unlink()
    fetch_dataset(options(tmp_path, server.url))
    assert len(server.requests) == 1, "the archive was kept"


def test_an_archive_put_by_hand_is_unpacked_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "Games"
    folder.mkdir(parents=True)
    (folder / f"{PREFIX}.zip").write_bytes(zipped(FILES))
    given = {**TINY, "data_path": str(tmp_path / "data"), "output_dir": str(tmp_path / "o"), "download": False}
    run("Pop", "Games", given)
    assert names(folder) == FETCHED | {f"{PREFIX}.zip"}
    assert json.loads((folder / "Games.source.json").read_text())["url"] is None


def test_a_damaged_archive_put_by_hand_is_not_removed(tmp_path: Path) -> None:
    archive = tmp_path / "data" / "Games" / f"{PREFIX}.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"PK")
    assert f"{archive} cannot be unpacked" in refused(tmp_path, None)
    assert archive.read_bytes() == b"PK"


def test_threads_that_want_the_same_data_set_download_it_once(tmp_path: Path, server: Server) -> None:
    server.gate.clear()
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            fetch_dataset(options(tmp_path, server.url))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    server.gate.set()
    for thread in threads:
        thread.join(30)
    assert not failures and len(server.requests) == 1
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_processes_that_want_the_same_data_set_do_not_spoil_it(tmp_path: Path, server: Server) -> None:
    server.gate.clear()
    server.cuts = [1000]
    code = (
        "import json, sys; from recbole_lcrec.data.fetch import fetch_dataset; fetch_dataset(json.loads(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, json.dumps(options(tmp_path, server.url))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"}
    first, second = (subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2))
    deadline = time.monotonic() + 60
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    server.gate.set()
    errors = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert server.ranges_asked() == [None, "bytes=1000-"], "the second process waited"
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_lost_lock_race_is_run_again(tmp_path: Path, server: Server) -> None:
    """One failing process removes the folder that the waiting one has locked; the latter must make its own."""
    server.gate.clear()
    server.statuses = [404]
    outcomes: list[str] = []

    def fetch() -> None:
        try:
            fetch_dataset(options(tmp_path, server.url))
            outcomes.append("fetched")
        except UserError:
            outcomes.append("refused")

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.gate.set()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["fetched", "fetched", "refused"]
    assert names(tmp_path / "data" / "Games") == FETCHED


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_gets_a_warning(
    tmp_path: Path, server: Server, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING):
        fetch_dataset(options(tmp_path, server.url))
    assert "no locks on this file system" in caplog.text
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_killed_process_leaves_no_lock_that_blocks(tmp_path: Path, server: Server) -> None:
    server.gate.clear()
    code = (
        "import json, sys; from recbole_lcrec.data.fetch import fetch_dataset; fetch_dataset(json.loads(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, json.dumps(options(tmp_path, server.url))]
    killed = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"})
    deadline = time.monotonic() + 60
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "data" / "Games" / ".download.lock").read_text().startswith(f"process {killed.pid} on ")
    killed.kill()
    killed.wait()
    server.gate.set()
    fetch_dataset(options(tmp_path, server.url))
    assert names(tmp_path / "data" / "Games") == FETCHED


def test_a_password_in_the_address_reaches_the_server_and_no_file(tmp_path: Path, server: Server) -> None:
    fetch_dataset(options(tmp_path, server.url.replace("127.0.0.1", "me:s3cret@127.0.0.1")))
    assert server.requests[0]["Authorization"].startswith("Basic ")
    assert json.loads((tmp_path / "data" / "Games" / "Games.source.json").read_text())["url"] == server.url
    server.statuses = [403]
    message = refused(tmp_path / "again", server.url.replace("127.0.0.1", "me:s3cret@127.0.0.1"))
    assert "s3cret" not in message and server.url in message


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_without_a_network_one_message_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"http://127.0.0.1:{closed_port()}/{PREFIX}.zip"
    argv = ["--model=Pop", "--dataset=Games", f"--dataset_url={url}", "--output_dir=out", "--show_progress=False"]
    start = time.perf_counter()
    assert main(argv) == 2
    assert time.perf_counter() - start < 5
    printed = capsys.readouterr()
    folder = tmp_path / "dataset" / "Games"
    for part in (
        "the server cannot be reached ([Errno 111] Connection refused)",
        f"put Games.inter and Games.item into {folder}",
        f"as {folder / PREFIX}.zip",
        f"python -m recbole_lcrec.convert amazon2018 <folder> --name Games --output {folder.parent}",
    ):
        assert part in printed.err
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CONNECT_SECONDS", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        full = []
        for _ in range(4):  # a full queue: further connections hang
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
            full.append(one)
        message = refused(tmp_path, f"http://127.0.0.1:{deaf.getsockname()[1]}/{PREFIX}.zip")
        for one in full:
            one.close()
    assert "cannot be reached (Connection to 127.0.0.1 timed out." in message


def test_a_server_that_falls_silent_is_asked_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "READ_SECONDS", 0.1)
    server.gate.clear()
    assert "after 5 attempts, Read timed out." in refused(tmp_path, server.url)


def test_proxies_of_the_environment_are_used(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix(f"/data/{PREFIX}.zip"))
    url = f"http://mirror.invalid/{PREFIX}.zip"
    fetch_dataset(options(tmp_path, url))
    assert server.requests[0]["path"] == url


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match=r"data/Games cannot be written \(Not a directory\)"):
        fetch_dataset(options(tmp_path, server.url))


def test_options_are_checked_before_anything_is_downloaded(tmp_path: Path, server: Server) -> None:
    given = {"data_path": str(tmp_path), "dataset_url": server.url, "valid_metric": "NDCG@99"}
    with pytest.raises(UserError, match="valid_metric"):
        run("Pop", "Games", given)
    LCRecConfig("Pop", "Games", config_dict={**given, "valid_metric": "NDCG@10"})
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://host:port/a.zip", "http://a b/a.zip", f"http://{'x' * 70}.org/a.zip"])
def test_an_address_that_cannot_be_is_told_at_once(tmp_path: Path, url: str) -> None:
    assert "the address is not valid" in refused(tmp_path, url)
    assert list(tmp_path.iterdir()) == []


def test_help_does_without_a_network(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert main(["--help=datasets"]) == 0
    assert "Data sets that are downloaded when they are not there: Arts, Games" in capsys.readouterr().out
