from pathlib import Path

import pytest
import yaml

from recbole_lcrec.config.loader import dump_values, load_options, load_values, parse_value
from recbole_lcrec.utils.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_dates_and_none_are_read_as_recbole_users_write_them(tmp_path: Path) -> None:
    values = load_values(write(tmp_path, "a: 1e-3\nb: 5E2\nc: 2020-01-01\nd: None\ne: ~\nf: [1e-5, None]\n"))
    assert values == {"a": 1e-3, "b": 500.0, "c": "2020-01-01", "d": None, "e": None, "f": [1e-5, None]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1:30", "1:30"), ("on", "on"), ("no", "no"), ("010", 10), ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"),
     ("1e3", 1000.0), ("+1", 1), (".5", 0.5), ("true", True), ("<<", "<<"), ("2020-01-01", "2020-01-01")],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    assert parse_value(text, "here").value == value
    assert load_values(write(tmp_path, f"a: {text}\n"))["a"] == value
    assert load_values(write(tmp_path, dump_values({"a": text}))) == {"a": text}


def test_what_a_document_may_grow_to_is_bounded(tmp_path: Path) -> None:
    laughs = "[&a0 [1,1]" + "".join(f", &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 25)) + "]"
    for text, problem in (
        (laughs, "more than 100,000 values"),
        ("[" * 5000, "deep in each other"),
        ("&a [*a]", "an alias that contains itself"),
        ("9" * 5000, "a number of 5,000 digits"),
    ):
        assert problem in str(parse_value(text, "here").problem)
        with pytest.raises(UserError, match=problem):
            load_options(write(tmp_path, f"a: {text}\n"))
    with pytest.raises(UserError, match="has more than 2,000,000 bytes"):
        load_options("/dev/zero")


def test_other_yaml_loaders_stay_as_they_are() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    assert yaml.load("1e-3", Loader=yaml.FullLoader) == "1e-3"


def test_every_value_knows_its_line_and_its_text(tmp_path: Path) -> None:
    given = load_options(path := write(tmp_path, "# comment\ngpu_id: 0\n\nx: [5,10]\n"))
    assert given["gpu_id"].source == f"{path}, line 2"
    assert given["gpu_id"].text == "0"
    assert (given["x"].value, given["x"].text, given["x"].source) == ([5, 10], "[5,10]", f"{path}, line 4")


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: [1, 2\n", "line 3, column 1", "expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3, column 3", "'b' is given twice"),
        ("a: {rating:4}\n", "line 1, column 5", "a blank is missing after ':'"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1", "could not determine a constructor"),
        ("a: 1\n\tb: 2\n", "line 2", "cannot start any token"),
        ("- a\n- b\n", "", "expected lines of the form 'option: value'"),
    ],
)
def test_malformed_yaml_names_file_and_place(tmp_path: Path, text: str, place: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_options(path)
    assert str(path) in str(error.value)
    assert place in str(error.value)
    assert problem in str(error.value)


def test_missing_binary_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_options(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_options(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_options(tmp_path / "b.yaml")
    assert load_options(write(tmp_path, "# nothing\n")) == {}


def test_values_of_the_command_line_are_never_evaluated() -> None:
    text = "__import__('os').getcwd()"
    assert parse_value(text, "here").value == text
    assert parse_value("[5,inf)", "here").value == "[5,inf)"
    assert parse_value("", "here").value is None
    assert parse_value("'a'", "here").text == "a"
    assert parse_value("{rating:4}", "here").problem is not None
