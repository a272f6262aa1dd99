"""The documentation: it says what the code says, its links lead somewhere, and its commands are accepted."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec.cli.main import Command, parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^(?:python (?:run_recbole_lcrec\.py|-m recbole_lcrec)|recbole-lcrec) (.*)$")


def generated() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, Any] = module.PAGES
    return pages


@pytest.mark.parametrize("name", ["options_reference.md", "modules.md"])
def test_pages_from_the_code_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generated()[name](), "run python docs/generate.py"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
        link, _, anchor = (target[0] or target[1]).partition("#")
        if link.startswith(("http://", "https://")):
            continue
        file = (page.parent / link) if link else page
        headings = (
            re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if file.suffix == ".md" and file.is_file()
            else []
        )
        if not file.exists() or (anchor and anchor not in map(_anchor, headings)):
            broken.append("".join(target))
    assert broken == []


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def commands() -> list[tuple[str, str]]:
    """Return page and arguments of every command of ours in a fenced block that names no folder of a run."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = PROGRAM.match(line.split("&& ")[-1].strip())
                if match and not re.search(r"<\w|\.\.\.|own\.py|=saved/|--resume|--help|MeanRec|halves", match[1]):
                    found.append((str(page.relative_to(ROOT)), match[1]))
    return found


@pytest.mark.parametrize(("page", "arguments"), commands())
def test_commands_are_accepted(page: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data/shop", "dataset/Games", "data/Games", "dataset/shop"):
        name = Path(folder).name
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{name}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    (tmp_path / "space.yaml").write_text("learning_rate: {loguniform: [1.0e-4, 1.0e-2]}\n")
    shared = ROOT.parent / "shared"
    if "../shared" in arguments and not shared.is_dir():
        pytest.skip("the shared data sets are not here")
    argv = shlex.split(arguments.replace("../shared", str(shared)), comments=True)
    assert isinstance(parse(argv), Command), "what it refuses is raised"


def test_commands_are_found() -> None:
    assert len(commands()) > 20
