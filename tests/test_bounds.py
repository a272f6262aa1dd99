"""What would ask for more memory or time than there is, is refused in words before any work."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from fakes import TINY, write_dataset

from recbole_lcrec.cli.main import main
from recbole_lcrec.embedding.ready_file import load
from recbole_lcrec.index import load_index
from recbole_lcrec.index.item_index import check_capacity
from recbole_lcrec.quantizer.base import check_embeddings
from recbole_lcrec.quantizer.quantizer_settings import check_tokens
from recbole_lcrec.utils.errors import UserError

ITEMS = tuple(f"i{n}" for n in range(30))


def promising(path: Path, shape: str, kind: str = "<f4") -> Path:
    """Write an .npy file whose header promises a shape, with a few numbers behind it."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(720))
    return path


@pytest.mark.parametrize(
    "shape",
    ["(100000000000, 6)", "(6, 100000000000)", "(10**9, 6)", "(-1, 6)", "(99999999999999999999, 6)", "(30, 7)"],
)
def test_a_header_that_promises_more_than_the_file_holds(shape: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"e\.npy: not a readable \.npy file"):
        load(promising(tmp_path / "e.npy", shape), ITEMS, ids_file=None)


def test_a_long_file_is_not_read_where_its_shape_is_wrong(tmp_path: Path) -> None:
    path = promising(tmp_path / "e.npy", "(1000000000, 100)")
    with open(path, "r+b") as file:
        file.truncate(128 + 4 * 10**11)  # sparse: 400 GB that take no space
    with pytest.raises(UserError, match="found 1000000000 rows, expected 30"):
        load(path, ITEMS, ids_file=None)


@pytest.mark.parametrize("content", ["[" * 100_000, '[["a"]]', "[1.5]", "[true]", "[" + "9" * 5000 + "]"])
def test_ids_files_that_are_no_lists_of_tokens(content: str, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.eye(30, 6, dtype=np.float32))
    (tmp_path / "ids").write_text(content)
    with pytest.raises(UserError, match="embedding_ids_file=.*(cannot be read|not item tokens)"):
        load(tmp_path / "e.npy", ITEMS, ids_file=str(tmp_path / "ids"))


@pytest.mark.parametrize("largest", [1e38, -1e38, 1e16])
def test_embeddings_too_large_to_be_squared_are_told_as_that(largest: float, tmp_path: Path) -> None:
    vectors = np.eye(30, 6, dtype=np.float32)
    vectors[3, 2] = largest
    np.save(tmp_path / "e.npy", vectors)
    with pytest.raises(UserError, match=r"e\.npy: the largest number is 1e\+\d\d, expected at most 1e\+15"):
        load(tmp_path / "e.npy", ITEMS, ids_file=None)
    with pytest.raises(UserError, match="embeddings: the largest number"):
        check_embeddings(vectors)
    check_embeddings(vectors / np.float32(abs(largest)))


def scattered(path: Path, codes: list[int], items: int = 30) -> Path:
    path.write_text(json.dumps({f"i{n}": [n, *codes] for n in range(items)}))
    return path


def test_a_few_codes_scattered_over_many_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"i\.json: level 2 of 30 items uses code 65535; expected codes below 4,096"):
        load_index(scattered(tmp_path / "i.json", [65535, 65535]), collisions="error")
    index = load_index(scattered(tmp_path / "i.json", [4095, 0]), collisions="error")
    assert index.level_sizes == (30, 4096, 1)


def test_levels_have_only_so_many_codes_together() -> None:
    check_tokens((65_536, 65_536), "codebook_size")
    with pytest.raises(UserError, match="codebook_size: the levels have 196,608 codes together"):
        check_tokens((65_536,) * 3, "codebook_size")


def test_a_catalogue_larger_than_its_paths_is_told_from_numbers_alone() -> None:
    with pytest.raises(UserError, match="65 items need a path each, but 8 x 8 codes make only 64"):
        check_capacity(65, (8, 8))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--codebook_size=1000000000", "codebook_size is 1000000000; expected a whole number from 1 to 65,536"),
        ("--codebook_size=65536", "196,608 codes together"),
        ("--lm_hidden_size=1000000", "lm_hidden_size is 1000000; expected a whole number from 1 to 65,536"),
        ("--lm_hidden_size=65536", "takes"),
        ("--rqvae_layers=[1000000000]", "rqvae_layers"),
        ("--lm_layers=100000000", "lm_layers is 100000000; expected a whole number from 1 to 1,024"),
        ("--task_samples=100000000000000", "task_samples"),
    ],
)
def test_numbers_that_nobody_means_end_before_the_data_are_read(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole_lcrec.experiment import building

    monkeypatch.setattr(building, "build_data", lambda *_: pytest.fail("data are read"))
    write_dataset(tmp_path)
    given = {**TINY, "data_path": tmp_path, "output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    arguments = [f"--{name}={value}" for name, value in given.items() if f"--{name}=" not in option]
    arguments = [argument for argument in arguments if not argument.startswith(option.split("=")[0] + "=")]
    assert main(["--model=LCRec", "--dataset=toy", *arguments, option]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()
