"""Where trials leave what they write, and what the machines of a cluster can reach of it.

Trials write straight into the search's output folder, which all machines see. With option ``storage_path`` they write
on their own machine and store their folders there, in any place that pyarrow reaches (a shared folder, s3://, gs://,
...); the search brings them to its output folder at the end.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.config.loader import dump_values, load_values
from recbole_lcrec.utils.files import fingerprint, remove, storing, write_text
from recbole_lcrec.utils.integrity import MANIFEST
from recbole_lcrec.utils.run_files import CHECKPOINT, CONFIG, EMBEDDINGS
from recbole_lcrec.utils.run_folder import seal

TRIALS, TENSORBOARD, ENGINE = "trials", "tensorboard", ".ray"
"""In the output folder: the trials' folders and curves; and Ray Tune's notes, with the states that pbt copies."""
_WEIGHTS = (CHECKPOINT, EMBEDDINGS)
"""In a trial's folder: large, and of use for the best trial alone."""


def is_uri(path: str) -> bool:
    """Return whether a path names something that only pyarrow's file systems reach."""
    return "://" in path


@dataclass(frozen=True)
class Storage:
    """The place for the trials' folders.

    Attributes:
        output_dir: The search's output folder.
        where: Folder or URI of this search alone; the output folder itself if trials write into it.
    """

    output_dir: Path
    where: str

    @classmethod
    def of_search(cls, output_dir: Path, storage_path: str | None) -> Storage:
        """Return the place of a search: the same one when it is resumed.

        Args:
            output_dir: The search's output folder, absolute.
            storage_path: Option ``storage_path``.
        """
        if storage_path is None:
            return cls(output_dir, str(output_dir))
        name = f"{output_dir.name}-{fingerprint(socket.gethostname(), str(output_dir))[:12]}"
        return cls(output_dir, f"{storage_path.rstrip('/')}/{name}")

    @property
    def is_direct(self) -> bool:
        """Whether trials write straight into the output folder."""
        return self.where == str(self.output_dir)

    @contextmanager
    def working_folder(self, trial: str, *, anew: bool, keep: bool = True) -> Iterator[TrialFolder]:
        """Yield the folder in which a trial is to work on this machine.

        Args:
            trial: Name of the trial.
            anew: Whether what an earlier start of it left is removed; otherwise it is brought here.
            keep: Whether what the folder holds at the end is stored.
        """
        if self.is_direct:
            folder = TrialFolder(self, trial, self.output_dir)
            for path in (folder.path, folder.tensorboard) if anew else folder.path.glob(f"{TrialFolder.STATE}*"):
                remove(path)
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="lcrec-trial-") as temporary:
            folder = TrialFolder(self, trial, Path(temporary))
            if anew:
                self.remove(f"{TRIALS}/{trial}")
            else:
                self._download(trial, folder.root, weights=True)
            try:
                yield folder
            finally:
                if keep:
                    folder.keep()  # the logs are complete only now

    def bring(self, trial: str, *, weights: bool) -> None:
        """Make sure that the output folder has a trial's folder.

        Args:
            trial: Name of the trial.
            weights: Whether its checkpoint is wanted.
        """
        if self.is_direct or not self._download(trial, self.output_dir, weights=weights):
            return
        path = self.output_dir / TRIALS / trial / CONFIG
        if path.is_file():  # it names the folder on the machine where the trial ran
            write_text(path, dump_values({**load_values(path), "output_dir": str(path.parent)}))
            if (path.parent / MANIFEST).is_file():
                seal(path.parent)

    def drop_weights(self, trial: str) -> None:
        """Remove the large files of a trial that is over and not the best."""
        if self.is_direct:
            for name in _WEIGHTS:
                remove(self.output_dir / TRIALS / trial / name)
            return
        for number in self._versions(trial):
            for name in _WEIGHTS:
                self.remove(f"{TRIALS}/{trial}/{number}/{TRIALS}/{trial}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file or folder of the search, if it exists."""
        from pyarrow.fs import FileType

        filesystem, root = self._open()
        kind = filesystem.get_file_info(f"{root}/{name}").type
        if kind == FileType.Directory:
            filesystem.delete_dir(f"{root}/{name}")
        elif kind == FileType.File:
            filesystem.delete_file(f"{root}/{name}")

    def upload(self, folder: Path, trial: str) -> None:
        """Store a folder as the latest of a trial: whole or not at all.

        Every upload is a folder of its own, which counts once there is a file NAME.whole next to it.
        """
        from pyarrow.fs import copy_files

        filesystem, root = self._open()
        before = self._versions(trial)
        target = f"{root}/{TRIALS}/{trial}"
        number = f"{int(before[-1]) + 1 if before else 1:06d}"
        with storing(self.where):
            self.remove(f"{TRIALS}/{trial}/{number}")  # of a process that was killed
            filesystem.create_dir(f"{target}/{number}", recursive=True)
            copy_files(str(folder), f"{target}/{number}", destination_filesystem=filesystem)
            with filesystem.open_output_stream(f"{target}/{number}.whole") as file:
                file.write(number.encode())
        for old in before:
            self.remove(f"{TRIALS}/{trial}/{old}.whole")
            self.remove(f"{TRIALS}/{trial}/{old}")

    def _download(self, trial: str, folder: Path, *, weights: bool) -> bool:
        """Copy the latest folder of a trial; return whether there is one."""
        from pyarrow.fs import FileSelector, copy_files

        filesystem, root = self._open()
        versions = self._versions(trial)
        if not versions:
            return False
        source = f"{root}/{TRIALS}/{trial}/{versions[-1]}"
        left_out = () if weights else tuple(f"{source}/{TRIALS}/{trial}/{name}" for name in _WEIGHTS)
        for info in filesystem.get_file_info(FileSelector(source, recursive=True)):
            if info.is_file and not info.path.startswith(left_out):
                path = folder / info.path.removeprefix(f"{source}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                copy_files(info.path, str(path), source_filesystem=filesystem)
        return True

    def _versions(self, trial: str) -> list[str]:
        from pyarrow.fs import FileSelector

        filesystem, root = self._open()
        found = filesystem.get_file_info(FileSelector(f"{root}/{TRIALS}/{trial}", allow_not_found=True))
        return sorted(info.base_name.removesuffix(".whole") for info in found if info.base_name.endswith(".whole"))

    def _open(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        filesystem, root = FileSystem.from_uri(self.where)
        return filesystem, root.rstrip("/")


@dataclass(frozen=True)
class TrialFolder:
    """Where a trial works.

    Attributes:
        storage: Where it ends up.
        trial: Name of the trial.
        root: What stands for the search's output folder here.
    """

    STATE = ".state-"

    storage: Storage
    trial: str
    root: Path

    @property
    def path(self) -> Path:
        """The trial's folder, which is that of a run."""
        return self.root / TRIALS / self.trial

    @property
    def tensorboard(self) -> Path:
        """Its curves."""
        return self.root / TENSORBOARD / self.trial

    def keep(self) -> None:
        """Make sure that the storage has what the trial wrote."""
        if not self.storage.is_direct and self.path.is_dir():
            self.storage.upload(self.root, self.trial)

    @contextmanager
    def state_folder(self) -> Iterator[Path]:
        """Yield a folder for a state of the training, which is removed afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.path, prefix=self.STATE))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
