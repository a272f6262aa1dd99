"""For clusters without shared storage: the files that trials read, sent to every machine through Ray.

The machine that runs the search puts them into Ray's object store once. Each other machine unpacks them once, into a
temporary folder that is removed when the search is over, and its trials run there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.configuration import files_of
from recbole_lcrec.embedding.huggingface import identity, is_copy
from recbole_lcrec.errors import UserError
from recbole_lcrec.io import atomic_folder, fingerprint
from recbole_lcrec.locking import waiting_lock

logger = logging.getLogger(__name__)

_CHUNK = 2**26  # bytes of an object in Ray's store: whoever reads a large file needs no more memory than this
DATA, CACHE, FILES, OUT = "data", "cache", "files", "out"
"""In a machine's folder: data sets, caches, other files that options name; and what its trials write."""


@dataclass(frozen=True)
class Parcel:
    """A file in Ray's object store.

    Attributes:
        name: Where it belongs, relative to the folder that is sent.
        sha256: Of its content.
        chunks: References to its content, in order.
    """

    name: str
    sha256: str
    chunks: tuple[Any, ...]


def packed(ray: Any, name: str, path: Path, content: bytes | None = None) -> Parcel:
    """Put a file into the object store.

    Args:
        ray: The module, connected.
        name: Where it belongs.
        path: The file.
        content: What to send in place of its content.
    """
    digest = hashlib.sha256()
    chunks: list[Any] = []
    with path.open("rb") as file:
        while (chunk := file.read(_CHUNK) if content is None else content) or not chunks:
            digest.update(chunk)
            chunks.append(ray.put(chunk))
            if content is not None or not chunk:
                break
    return Parcel(name, digest.hexdigest(), tuple(chunks))


def unpack(ray: Any, parcels: Iterable[Parcel], folder: Path) -> None:
    """Write files into a folder.

    Raises:
        OSError: If the content is not what was sent.
    """
    for parcel in parcels:
        path, digest = folder / parcel.name, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for reference in parcel.chunks:
                chunk = ray.get(reference)
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != parcel.sha256:
            raise OSError(f"{path}: Ray delivered other content than was sent")


def files_below(path: Path) -> list[Path]:
    """Return the files of a folder in order, or the file itself; hidden ones are somebody's temporary files."""
    if path.is_file():
        return [path]
    found = (part for part in path.rglob("*") if part.is_file())
    return sorted(part for part in found if not any(name.startswith(".") for name in part.relative_to(path).parts))


@dataclass(frozen=True)
class Shipment:
    """What trials read, and where it is on the machines.

    Attributes:
        name: Name of the folder that every machine has for this search, in its own temporary folder.
        key: Named after the content.
        parcels: The files, with names relative to the folder ``inputs-<key>`` there.
        places: Paths of the search -> relative to that folder.
        models: Local models among them: name there -> what tells it from others (see ``identity``).
        depot: The actor that takes what trials write (``recbole_lcrec.tuning.delivery.Depot``).
    """

    name: str
    key: str
    parcels: tuple[Parcel, ...]
    places: Mapping[str, str]
    models: Mapping[str, tuple[str, list[Any]]]
    depot: Any

    def unpacked(self) -> Path:
        """Return the folder with the files on this machine; the first process that asks unpacks them."""
        import ray

        folder = machine_folder(self.name)
        target = folder / f"inputs-{self.key}"
        with waiting_lock(folder / ".unpacking"):
            if not target.is_dir():
                with atomic_folder(target) as temporary:
                    unpack(ray, self.parcels, temporary)
        for name, original in self.models.items():
            is_copy(target / name, original)
        return target


def shipment_name(output_dir: Path) -> str:
    """Return the name of the folder on the machines: the same when the search is resumed, whose rest is removed."""
    return f"lcrec-trials-{fingerprint(socket.gethostname(), str(output_dir))[:12]}"


def machine_folder(name: str) -> Path:
    """Make this machine's folder of a search, for this user alone.

    Raises:
        UserError: If it is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} on {socket.gethostname()} belongs to somebody else. Set TMPDIR before ray start.")
    return folder


@dataclass(frozen=True)
class Cargo:
    """Files that trials read.

    Attributes:
        data_path: Option ``data_path``, absolute.
        data_folder: Folder of the data set.
        dataset: Its name.
        cache_dir: Option ``cache_dir``, absolute.
        cached: Files and folders in it that the search used.
        options: Options in which other files may be named; those of the whole space.
    """

    data_path: Path
    data_folder: Path
    dataset: str
    cache_dir: Path
    cached: Sequence[Path]
    options: Sequence[Mapping[str, Any]]

    def listed(self) -> tuple[dict[str, Path], dict[str, str], dict[str, tuple[str, list[Any]]]]:
        """Return name there -> file, path here -> name there, and the local models (see ``Shipment``)."""
        files = {f"{DATA}/{self.dataset}/{path.name}": path for path in self.data_files()}
        for entry in self.cached:
            for path in files_below(entry):
                files[f"{CACHE}/{path.relative_to(self.cache_dir)}"] = path
        places, models = {str(self.data_path): DATA, str(self.cache_dir): CACHE}, {}
        named = {given: path for options in self.options for given, path in files_of(options).items()}
        for number, absolute in enumerate(sorted(set(named.values()))):
            source = Path(absolute)
            name = f"{FILES}/{number}/{source.name}"
            for file in files_below(source):
                files[f"{name}/{file.relative_to(source)}" if source.is_dir() else name] = file
            for file in files_below(source.parent / "quantizer") if source.suffix == ".json" else ():
                files[f"{FILES}/{number}/quantizer/{file.relative_to(source.parent / 'quantizer')}"] = file
            if source.is_dir():
                models[name] = identity(absolute)
            places |= {given: name for given, path in named.items() if path == absolute} | {absolute: name}
        return files, places, models

    def data_files(self) -> list[Path]:
        """Return the files of the data set: atomic files, published texts, reviews."""
        found = sorted(self.data_folder.glob(f"{self.dataset}.*"))
        return [path for path in found if path.is_file() and path.suffix not in (".zip", ".gz", ".part")]


def ship(ray: Any, cargo: Cargo, output_dir: Path, depot: Any) -> Shipment:
    """Put all that trials read into Ray's object store.

    Args:
        ray: The module, connected.
        cargo: The files.
        output_dir: The search's output folder.
        depot: See ``Shipment``.
    """
    files, places, models = cargo.listed()
    parcels = tuple(packed(ray, name, path) for name, path in sorted(files.items()))
    key = fingerprint([[parcel.name, parcel.sha256] for parcel in parcels])
    size = sum(path.stat().st_size for path in files.values())
    logger.info("Sent through Ray: %d files, %.1f MB; each machine unpacks them once.", len(files), size / 1e6)
    return Shipment(shipment_name(output_dir), key, parcels, places, models, depot)
