"""A data set by name: its files are downloaded and unpacked when they are not there.

RecBole's own download ends in a barrier of ``torch.distributed``, which crashes without a process group, and it takes
whatever an interrupted download left behind for the data set. Here a data set's ``.inter`` appears last and complete,
and if several processes want the same data set, one works while the others wait.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from recbole_lcrec.config.names import missing_files
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.config.sources import DatasetArchive, source_of
from recbole_lcrec.data.archive import BadArchive, unpack
from recbole_lcrec.data.download import DownloadError, discard, download, without_credentials
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.locks import waiting_lock

logger = logging.getLogger(__name__)

_LOCK, _UNPACKED = ".download.lock", ".unpacking"


def fetch_dataset(config: Any) -> None:
    """Put the files of ``config["dataset"]`` where they are expected, unless they are there already.

    An archive that was put there by hand is unpacked; otherwise it is downloaded, if option ``download`` is on.
    ``<name>.source.json`` records address, size and SHA-256 of the archive.

    Args:
        config: An :class:`LCRecConfig`, whose ``data_path`` is the folder of this data set.

    Raises:
        UserError: Saying what to do by hand; nothing that looks like a data set is left behind.
    """
    run = RunOptions(config)
    name, folder = run.dataset, Path(run.data_path)
    if not missing_files(name, folder, run.benchmark_filename):
        return
    source = source_of(name, {"dataset_url": run.dataset_url})
    assert source is not None, "check_dataset has refused names without a source"
    show = run.show_progress
    try:
        with _alone(folder):
            if missing_files(name, folder, run.benchmark_filename):  # no other process was faster
                _fetch(source, folder, bool(run.download), show)
    except OSError as error:
        raise UserError(
            f"data set {name}: {error.filename or folder} cannot be written ({error.strerror})."
        ) from error
    missing = missing_files(name, folder, run.benchmark_filename)
    if missing:
        found = sorted(path.name for path in folder.glob("*.inter"))
        raise UserError(
            f"data set {name}: {', '.join(path.name for path in missing)} expected, but the archive {source.archive} "
            f"holds {', '.join(found)}. If these are parts of a split, name them, e.g. "
            "--benchmark_filename=\"['train', 'test']\"."
        )


def _fetch(source: DatasetArchive, folder: Path, allowed: bool, show: bool) -> None:
    """Unpack the archive in the folder, downloading it first if need be."""
    archive = folder / source.archive
    if archive.is_file():
        _install(archive, None, source, folder, show)
        return
    if not allowed:  # the archive was there when the options were checked
        raise UserError(f"data set {source.name}: {archive} is gone, and download is False.")
    address = without_credentials(source.url)
    try:
        part = download(source.url, archive, show=show)
    except DownloadError as error:
        raise UserError(
            f"data set {source.name} is not in {folder.absolute()}, and its archive cannot be downloaded from "
            f"{address}: {error}. {source.by_hand(folder)}"
        ) from error
    try:
        _install(part, address, source, folder, show)
    except BadArchive as error:
        discard(archive)
        raise UserError(f"{error} It came from {address} and was removed. {source.by_hand(folder)}") from error
    discard(archive)


def _install(archive: Path, url: str | None, source: DatasetArchive, folder: Path, show: bool) -> None:
    """Unpack next to the target, then move the files to their places, interactions last.

    Raises:
        UserError: If the archive is unusable, or a file of another origin is in the way.
    """
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    record = {"archive": source.archive, "url": url, "bytes": archive.stat().st_size, "sha256": sha256}
    unpacked = folder / _UNPACKED
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a killed process: only ours holds the lock
    unpacked.mkdir()
    try:
        files = unpack(archive, Path(source.archive).stem, source.name, unpacked, show=show)
        for name in files:
            if (folder / name).exists() and not filecmp.cmp(unpacked / name, folder / name, shallow=False):
                raise UserError(
                    f"{(folder / name).absolute()} is not the file of that name in {source.archive} and would be "
                    f"overwritten. Move it away, or add {source.name}.inter to it."
                )
        write_json(folder / f"{source.name}.source.json", record)
        for name in sorted(files, key=lambda name: (name.endswith(".inter"), name)):
            os.replace(unpacked / name, folder / name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    logger.info("Unpacked %s from %s (sha256 %s).", ", ".join(files), source.archive, sha256[:12])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; folders made in vain are removed."""
    made: list[Path] = []
    with ExitStack() as held:
        while True:
            made = [one for one in (folder, *folder.parents) if not one.exists()] or made
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(waiting_lock(folder / _LOCK, f"fetching {folder.name}"))
                break
            except FileNotFoundError:  # another process has just removed the empty folder
                continue
        try:
            yield
        finally:
            held.close()
            for one in made:
                try:
                    one.rmdir()
                except OSError:  # not empty: there is something to keep
                    break
