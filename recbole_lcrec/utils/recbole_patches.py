"""What RecBole 1.2.1 needs on today's torch, numpy and pandas, in one place.

Most of it is subclassing (config, datasets, trainer). What cannot be reached that way is here: names that numpy
removed, the folder RecBole's trainer hard-codes for tensorboard, and warnings about RecBole's own code.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def restore_numpy_names() -> None:
    """Restore the numpy aliases (np.float, ...) that RecBole's metrics use, as RecBole's own Config does.

    RecBole takes their values from names that numpy 2 has removed as well, so those are restored first.
    """
    import numpy as np
    from recbole.config import Config

    for name, value in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
        setattr(np, name, value)
    Config.compatibility_settings(None)


def restore_scipy_names() -> None:
    """Restore the method with which RecBole's graph models (LightGCN, ...) fill scipy's dictionary matrices."""
    import scipy.sparse

    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, data: self._dict.update(data)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block from seeded random states and restore the old ones: its draws depend on ``seed`` alone."""
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def same_anomaly_detection() -> Iterator[None]:
    """Leave autograd's anomaly detection as it is: importing RecBole's SINE switches it on for the whole process."""
    import torch

    before = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings that a user can do nothing about: those raised by RecBole's own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"recbole\..*")
        warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\..*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*`broadcast_buffers` is deprecated.*", category=FutureWarning)
        # numpy's np.bool and friends, looked up by name in compatibility_settings
        warnings.filterwarnings("ignore", message=r".*will be defined as the corresponding NumPy scalar.*")
        yield


@contextmanager
def silenced() -> Iterator[None]:
    """Silence logging while the block runs, for the processes of a group other than the main one."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def no_tensorboard() -> Iterator[None]:
    """Keep a RecBole trainer from making a tensorboard writer while it is constructed.

    RecBole's ``Trainer.__init__`` calls a module-level function that hard-codes ``./log_tensorboard``; our trainer
    makes its own when the first value is written.
    """
    from recbole.trainer import trainer as module

    original = module.get_tensorboard
    module.get_tensorboard = lambda _: None
    try:
        yield
    finally:
        module.get_tensorboard = original


class PlainText(logging.Filter):
    """Removes terminal colours from a record before it is written to a file."""

    def filter(self, record: logging.LogRecord) -> bool:
        import re

        try:
            text = record.getMessage()
        except TypeError:  # RecBole's RaCT passes an argument that its message has no placeholder for
            text = " ".join(map(str, (record.msg, *(record.args or ()))))
        record.msg = re.sub(r"\x1B\[[0-?]*[ -/]*[@-~]", "", text)
        record.args = ()
        return True


class LogFile(logging.FileHandler):
    """A log file that says once when it cannot be written (a full disk), instead of a traceback per line."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say what is wrong on the terminal."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            print(f"{self.baseFilename}: the log cannot be written ({error.strerror})", file=sys.stderr)

    def close(self) -> None:
        """Close the file, even if a full disk refuses its last lines."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path | None, level: str | None, *, append: bool = False) -> Iterator[None]:
    """Send the log to the terminal and to ``path``, in RecBole's format, and undo it at the end.

    RecBole's ``init_logger`` writes to ``./log``; it also logs through the root logger, so ours has to as well.

    Args:
        path: The log file; None for the terminal alone.
        level: RecBole's option ``state`` (INFO, DEBUG, ...).
        append: Whether to append to the file instead of overwriting it.
    """
    import sys

    import colorlog
    from recbole.utils.logger import log_colors_config

    root, old_level = logging.getLogger(), logging.getLogger().level
    to_file: logging.Handler = logging.NullHandler()
    if path is not None:
        to_file = LogFile(path, mode="a" if append else "w", encoding="utf-8", delay=False)
    to_file.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S"))
    to_screen = logging.StreamHandler(sys.stdout)
    to_screen.setFormatter(
        colorlog.ColoredFormatter(
            "%(log_color)s%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M", log_colors=log_colors_config
        )
    )
    if not sys.stdout.isatty():
        to_screen.addFilter(PlainText())
        to_screen.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M"))
    to_file.addFilter(PlainText())
    names = ("httpx", "urllib3", "filelock", "fsspec", "matplotlib", "huggingface_hub", "transformers", "httpcore",
             "mlflow", "alembic", "git")  # fmt: skip
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:  # libraries that would fill the log with their own affairs
        logging.getLogger(name).setLevel(logging.WARNING)
    root.setLevel(logging.getLevelNamesMapping().get((level or "INFO").upper(), logging.INFO))
    root.addHandler(to_screen)
    root.addHandler(to_file)
    try:
        yield
    finally:
        root.removeHandler(to_screen)
        root.removeHandler(to_file)
        to_file.close()
        root.setLevel(old_level)
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)
