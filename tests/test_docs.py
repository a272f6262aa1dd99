"""The documentation: it says what the code says, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


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
        if not file.exists() or (anchor and headings and anchor not in map(_anchor, headings)):
            broken.append("".join(target))
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_package_that_pages_name_are_there(page: Path) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|yaml))`", page.read_text(encoding="utf-8"))
    places = (ROOT, ROOT / "recbole_lcrec", ROOT / "properties", page.parent)
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_have_a_text_in_their_place(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "![](" not in text and all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text))


def test_models_pages_have_what_to_cite() -> None:
    for page in (ROOT / "docs" / "models").glob("*.md"):
        entries = re.findall(r"^```bibtex\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        assert entries, page
        for entry in entries:
            assert re.match(r"@\w+\{\w+,\n", entry) and entry.count("{") == entry.count("}"), entry


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
