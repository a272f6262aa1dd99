"""Unpacking the zip archive of a data set: its atomic files only, under the data set's name, and nothing outside.

RecBole unpacks everything in an archive and then renames the files that have the archive's name
(``Amazon_Video_Games.inter`` becomes ``amazon-video-games-18.inter``). Here the wanted members are chosen first, and
their paths inside the archive never reach the disk.
"""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.progress import progress

_CHUNK = 1 << 20
_MOST_BYTES, _MOST_TIMES = 1 << 30, 100
"""Text compresses about tenfold: more than 1 GiB and 100 times the archive's size is not a data set."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError, OSError)
"""What zipfile raises for damage, encryption and unknown compression."""


class BadArchive(UserError):
    """An archive that is unusable, however often it is unpacked."""


def unpack(archive: Path, stem: str, name: str, folder: Path, *, show: bool) -> list[str]:
    """Unpack the files of a data set.

    Args:
        archive: The zip archive.
        stem: What its files are usually called: the archive's name without suffix.
        name: What to call them: ``<stem>.inter`` becomes ``<name>.inter``.
        folder: An empty folder for them.
        show: Whether to show a progress bar.

    Returns:
        The names of the files written, sorted.

    Raises:
        BadArchive: If the archive is damaged or unsafe or holds no interactions.
        UserError: If there is no room on the disk.
        OSError: If a file cannot be written.
    """
    with _damage_reported(archive):
        opened = zipfile.ZipFile(archive)
    with opened:
        members = _wanted(opened, archive, stem, name)
        total = sum(info.file_size for info in members.values())
        _check_size(total, archive, folder)
        with progress(description="unpacking", show=show, total=total, unit="B", unit_scale=True) as bar:
            for file_name, info in members.items():
                with (folder / file_name).open("wb") as file:
                    for chunk in _chunks(opened, info, archive):
                        file.write(chunk)
                        bar.update(len(chunk))
    return sorted(members)


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise BadArchive(f"{archive.absolute()} cannot be unpacked: {error}.") from error


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """Yield the content of a member; zipfile checks its length and checksum."""
    with _damage_reported(archive):
        packed = opened.open(info)
    with packed:
        while True:
            with _damage_reported(archive):
                chunk = packed.read(_CHUNK)
            if not chunk:
                return
            yield chunk


def _wanted(opened: zipfile.ZipFile, archive: Path, stem: str, name: str) -> dict[str, zipfile.ZipInfo]:
    """Return file name -> member for the atomic files of the data set, under its name."""
    files: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts):
            raise BadArchive(f"{archive.absolute()} is refused: its member {info.filename!r} points outside it.")
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in path.parts):
            continue
        if path.name in files:
            raise BadArchive(f"{archive.absolute()} is refused: it holds two files named {path.name}.")
        files[path.name] = info
    stem = _stem([file for file in files if file.endswith(".inter")], sorted(files), archive, stem)
    return {name + file.removeprefix(stem): info for file, info in files.items() if file.startswith(f"{stem}.")}


def _stem(interactions: list[str], files: list[str], archive: Path, expected: str) -> str:
    """Return the data set's name inside the archive: that of its interactions."""
    if any(file.startswith(f"{expected}.") for file in interactions):
        return expected
    if len(interactions) == 1:
        return interactions[0].removesuffix(".inter")
    stems = {file.split(".")[0] for file in interactions}  # toys.train.inter, toys.test.inter -> toys
    if len(stems) == 1:
        return stems.pop()
    raise BadArchive(
        f"{archive.absolute()} is not the archive of a data set: expected one file of interactions, such as "
        f"{expected}.inter; found {', '.join(files[:10]) or 'nothing'}."
    )


def _check_size(total: int, archive: Path, folder: Path) -> None:
    packed = archive.stat().st_size
    if total > _MOST_BYTES and total > _MOST_TIMES * packed:
        raise BadArchive(
            f"{archive.absolute()} is refused: {packed} bytes that unpack to {total} are not a table of interactions."
        )
    if total > shutil.disk_usage(folder).free:
        raise UserError(f"{folder.parent.absolute()}: no room to unpack {archive.name} ({total / 2**20:.1f} MiB).")
