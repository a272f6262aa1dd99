import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

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
    assert any(name.endswith("LICENSE") for name in names)


def test_an_installed_wheel_finds_its_yamls_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "from recbole_lcrec.config import properties_dir; print(properties_dir())"
    assert run("-c", code, cwd=tmp_path, path=installed).strip() == str(installed / "recbole_lcrec" / "properties")
    shown = run("-m", "recbole_lcrec", "--help", cwd=tmp_path, path=installed)
    assert shown == run(str(ROOT / "run_recbole_lcrec.py"), "--help", cwd=tmp_path)
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


def test_pins_lie_in_the_ranges_of_setup_py() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(one.specifier) == 1 and str(one.specifier).startswith("==") for one in pinned)
    versions = {one.name.lower(): str(one.specifier).removeprefix("==") for one in pinned}
    assert len(versions) == len(pinned)
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    block = text[text.index("REQUIRES = [") : text.index("]\n\nsetup(")]
    ranges = [Requirement(line.strip().strip('",')) for line in block.splitlines() if line.strip().startswith('"')]
    assert len(ranges) > 10
    for one in ranges:
        assert one.specifier.contains(versions[one.name.lower()]), one
