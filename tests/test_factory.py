"""What a constructor raises is told as what it is: weights to start from, a missing package, or itself."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.experiment import factory
from recbole_lcrec.utils.errors import UserError


def raising(error: Exception) -> type:
    class Model:
        def __init__(self, config: Any, dataset: Any) -> None:
            raise error

    return Model


def made(error: Exception, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr(factory, "model_class", lambda name: raising(error))
    factory.make_model({"model": "S3Rec", **options}, None)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "w.pth"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "w.pth"),
        pickle.UnpicklingError("invalid load key"),
        EOFError(),
        RuntimeError("PytorchStreamReader failed reading zip archive"),
        RuntimeError("Error(s) in loading state_dict for S3Rec"),
    ],
)
def test_weights_to_start_from(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="S3Rec: the file of weights .* Set pre_model_path to a file"):
        made(error, monkeypatch, pre_model_path="w.pth")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "somewhere/else"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "libgomp.so"),
        OSError("a library's own words"),
        RuntimeError("shape mismatch"),
    ],
)
def test_other_errors_are_not_told_as_weights(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"pre_model_path": "w.pth"}, {}):
        with pytest.raises(type(error)) as raised:
            made(error, monkeypatch, **options)
        assert raised.value is error


def test_models_without_such_a_file_have_no_such_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        made(EOFError(), monkeypatch)
