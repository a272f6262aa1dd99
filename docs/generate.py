"""Write the pages that come from the code: ``python docs/generate.py``; a test compares them with what is committed.

- docs/options_reference.md: every option of ours, from the comments beside its default.
- docs/modules.md: one line per module, from its docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path

from recbole_lcrec.config.declared import read_comments
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.options import known_options
from recbole_lcrec.config.paths import properties_dir

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "recbole_lcrec"
FILES = {
    "overall.yaml": "Every model",
    "embedding.yaml": "Models that read embeddings of the items",
    "index.yaml": "Models with an item index",
    "generative.yaml": "Models that generate paths (LCRec, TIGER, P5CID, LIGER)",
    "t5.yaml": "Models that train a T5 (TIGER, P5CID)",
    "language_model.yaml": "Models that tune a causal language model (LCRec, LIGER, TALLRec, InstructRec)",
    "user_texts.yaml": "Models that learn from what users say (LCRec, InstructRec)",
    "model/LCRec.yaml": "LCRec",
    "model/LCRec/scratch.yaml": "LCRec under `recipe: scratch`",
    "model/LCRec/paper.yaml": "LCRec under `recipe: paper`",
    "model/LCRec/base_model.yaml": "LCRec with `base_model`",
    "model/TIGER.yaml": "TIGER",
    "quantizer/letter.yaml": "Quantizer `letter`",
    "model/LIGER.yaml": "LIGER",
    "model/RPG.yaml": "RPG",
    "model/P5CID.yaml": "P5CID",
    "candidates.yaml": "Models that rank candidates (TALLRec, InstructRec)",
    "model/TALLRec.yaml": "TALLRec",
    "model/InstructRec.yaml": "InstructRec",
    "recommend.yaml": "Recommending (`--recommend`)",
    "serve.yaml": "Serving (`--serve`)",
    "tune.yaml": "Searches (`--tune`)",
}


def options_page() -> str:
    """Return the reference of our options in Markdown."""
    parts = [
        "# Option reference",
        "",
        "Written by `docs/generate.py` from the YAML files in `properties/`. `~` is None.",
    ]
    for name, title in FILES.items():
        path = properties_dir() / name
        comments, values = read_comments(path), load_values(path)
        parts += [
            "",
            f"## {title}",
            "",
            f"`properties/{name}`",
            "",
            "| option | default | takes | |",
            "|---|---|---|---|",
        ]
        for option, value in values.items():
            takes, text = known_options()[option].declaration, comments[option][1]
            parts.append(f"| `{option}` | `{_shown(value)}` | {_cell(takes)} | {_cell(text)} |")
    return "\n".join(parts) + "\n"


def modules_page() -> str:
    """Return one line per module in Markdown, room by room."""
    parts = ["# Modules", "", "Written by `docs/generate.py` from the modules' docstrings."]
    for room in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        parts += ["", f"## {room.name}", "", _first_line(room / "__init__.py"), ""]
        for path in sorted(room.rglob("*.py")):
            if path.name != "__init__.py":
                parts.append(f"- `{path.relative_to(PACKAGE).as_posix()}`: {_first_line(path)}")
    return "\n".join(parts) + "\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _plain(" ".join(text.split("\n\n")[0].split()))


def _plain(text: str) -> str:
    return text.replace("``", "`").replace("<", "&lt;") if "`" not in text else text.replace("``", "`")


def _shown(value: object) -> str:
    return "~" if value is None else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


PAGES = {"options_reference.md": options_page, "modules.md": modules_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
