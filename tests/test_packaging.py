import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path, path: Path | None = None, python: str | Path = sys.executable) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_sources(target: Path) -> Path:
    """Copy what a build reads: setuptools writes build/ and egg-info beside it, which must not reach the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for folder in ("recbole_lcrec", "properties", "tests"):
        shutil.copytree(ROOT / folder, target / folder, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy_sources(source)
    pip = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", str(target), str(source), cwd=target)
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel), cwd=target)
    return target


def test_the_wheel_holds_the_package_and_its_yamls_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"recbole_lcrec", next(top for top in tops if top.endswith(".dist-info"))}
    yamls = {name.removeprefix("recbole_lcrec/") for name in names if name.endswith(".yaml")}
    assert yamls == {path.relative_to(ROOT).as_posix() for path in (ROOT / "properties").rglob("*.yaml")}
    modules = {name for name in names if name.endswith(".py")}
    assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "recbole_lcrec").rglob("*.py")}
    pages = "recbole_lcrec/pages/templates/"
    assert {name for name in names if name.startswith(pages)} == {
        f"{pages}{path.name}" for path in (ROOT / pages).iterdir()
    }
    page = "recbole_lcrec/serving/page/"
    assert {name for name in names if name.startswith(page)} == {
        f"{page}{path.name}" for path in (ROOT / page).iterdir()
    }
    assert any(name.endswith("LICENSE") for name in names)


def test_an_installed_wheel_finds_its_yamls_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "from recbole_lcrec.config import properties_dir; print(properties_dir())"
    assert run("-c", code, cwd=tmp_path, path=installed).strip() == str(installed / "recbole_lcrec" / "properties")
    shown = run("-m", "recbole_lcrec", "--help=options", cwd=tmp_path, path=installed)
    assert shown == run(str(ROOT / "run_recbole_lcrec.py"), "--help=options", cwd=tmp_path)
    assert (installed / "bin" / "recbole-lcrec").is_file()


def test_the_checkout_finds_its_yamls_from_any_folder(tmp_path: Path) -> None:
    code = "from recbole_lcrec.config import properties_dir; print(properties_dir())"
    assert run("-c", code, cwd=tmp_path, path=ROOT).strip() == str(ROOT / "properties")


def test_an_editable_install_finds_the_yamls_of_the_checkout(tmp_path: Path) -> None:
    source, folder, environment = tmp_path / "source", tmp_path / "elsewhere", tmp_path / "venv"
    source.mkdir()
    folder.mkdir()
    copy_sources(source)
    run("-m", "venv", "--without-pip", str(environment), cwd=folder)
    (site,) = environment.glob("lib/*/site-packages")
    (site / "pins.pth").write_text(sysconfig.get_path("purelib") + "\n")  # the packages of the tests, without copying
    python = environment / "bin" / "python"
    pip = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--editable", str(source), cwd=folder)
    code = "from recbole_lcrec.config import properties_dir; print(properties_dir())"
    assert run("-c", code, cwd=folder, python=python).strip() == str(source / "properties")


def test_importing_the_package_is_silent_and_cheap(tmp_path: Path) -> None:
    code = (
        "import sys, recbole_lcrec; heavy = ('torch', 'recbole', 'ray', 'transformers', 'numpy');"
        "assert not [name for name in heavy if name in sys.modules]; recbole_lcrec.__version__"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_public_names_exist() -> None:
    import recbole_lcrec

    with pytest.raises(AttributeError, match="no attribute nothing"):
        recbole_lcrec.nothing  # noqa: B018


def metadata() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_python_gets_one_exact_version_that_lies_in_the_ranges(python: str) -> None:
    environment = {"python_version": python}
    versions: dict[str, str] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            assert len(pin.specifier) == 1 and str(pin.specifier).startswith("=="), pin
            assert canonicalize_name(pin.name) not in versions, pin
            versions[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    ranges = [Requirement(line) for line in metadata()["project"]["dependencies"]]
    assert len(ranges) > 10
    for one in ranges:
        assert one.specifier.contains(versions[canonicalize_name(one.name)]), one


def test_everything_that_recbole_asks_for_but_its_ray_is_pinned() -> None:
    versions = {canonicalize_name(pin.name): pin for pin in pins()}
    wanted = [Requirement(line) for line in importlib.metadata.requires("recbole") or []]
    assert len(wanted) > 10
    for one in wanted:
        if one.marker is None and one.name != "ray":
            pinned = str(versions[canonicalize_name(one.name)].specifier).removeprefix("==")
            assert one.specifier.contains(pinned), one


def test_recbole_has_one_range_and_uv_overrides_what_it_forbids() -> None:
    from recbole_lcrec.config.paths import RECBOLE

    settings = metadata()
    assert [str(Requirement(one).specifier) for one in settings["dependency-groups"]["recbole"]] == [
        str(SpecifierSet(RECBOLE))
    ]
    assert "recbole" in settings["tool"]["uv"]["default-groups"]
    ours = {Requirement(one).name: Requirement(one) for one in settings["project"]["dependencies"]}
    for one in map(Requirement, settings["tool"]["uv"]["override-dependencies"]):
        assert one == ours[one.name], "the override is the range of our own metadata"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "recbole is not installed"),
        ("1.1.1", "recbole 1.1.1 is installed, but recbole_lcrec needs >=1.2.1,<1.3"),
    ],
)
def test_a_missing_or_old_recbole_ends_in_one_message_with_the_command(
    version: str | None, message: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "sitecustomize.py"
    if version is None:
        code = """
            import importlib.util
            find = importlib.util.find_spec
            importlib.util.find_spec = lambda name, package=None: None if name == "recbole" else find(name, package)
        """
    else:
        code = f"""
            import importlib.metadata
            version = importlib.metadata.version
            importlib.metadata.version = lambda name: "{version}" if name == "recbole" else version(name)
        """
    blocked.write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments in (["--help"], ["--model=Pop", "--dataset=ml-100k"]):
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_recbole_lcrec.py"), *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {message}") and 'pip install --no-deps "recbole' in line


def test_other_pythons_and_bare_ones_are_told_what_to_do(tmp_path: Path) -> None:
    script = (ROOT / "run_recbole_lcrec.py").read_text(encoding="utf-8")
    code = f"import sys; sys.version_info = (3, 10, 4, 'final', 0); exec({script!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "needs Python 3.11 or newer, but this is Python 3.10" in done.stderr
    bare = [sys.executable, "-S", "-E", str(ROOT / "run_recbole_lcrec.py"), "--help"]  # without site-packages
    done = subprocess.run(bare, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "is not installed for" in done.stderr and "Traceback" not in done.stderr


def test_the_image_is_built_of_files_that_are_there_and_sent() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    copied = {name.removeprefix("./") for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert copied == sent and all((ROOT / name).exists() for name in copied)
    build = metadata()
    needed = {build["project"]["readme"], *build["project"]["license-files"], "pyproject.toml", "setup.py"}
    assert needed <= copied
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["lcrec"] and "recbole==1.2.1" in "".join(lines)
